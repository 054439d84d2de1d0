// A backend of the gateway in plain Node.js. It was written from PROTOCOL.md alone; the sections named here are its sections.
//
//   const backend = new Backend({ name: 'echo' });
//   backend.on('session', (session) => session.on('packet', (packet) => session.write(packet)));
//   await backend.listen(9001, '127.0.0.1');

import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import net from 'node:net';
import { setImmediate } from 'node:timers/promises';

const VERSION = 1;
const HELLO = 1, WELCOME = 2, AUTH = 3, READY = 4, OPEN = 5, ATTACHED = 6, TYPE = 7, CLOSE = 8, CLOSED = 9, KICK = 10,
  RELEASE = 11, HANDOFF = 12, JOIN = 13, LEAVE = 14, CAST = 15, PING = 16, PONG = 17, FLOW = 18, DRAIN = 19, GOAWAY = 20;
const REASONS = ['', 'left', 'moved', 'kicked', 'gateway leaving', 'released'];
const MOVED = 2;

const MAGIC = 0xdeadbeef;
const NOBODY = Buffer.alloc(6);
const HEADROOM = 64; // bytes of headers that a packet may have beside its payload
const MAX_DOWN = (1 << 20) + HEADROOM;
const MAX_STATE = 32 << 10;
const MAX_WAITING = 4 << 20; // bytes that wait for one session, or for one link
const TURN = 64; // packets that are handled before it is another link's turn
const HANDSHAKE = 2000, SILENCE = 10, GRACE = 10_000; // ms, s, ms
const MAX_EXPIRED = 1 << 16, EXPIRED_GRACES = 10; // sessions whose counts are kept, and for how many grace times

export const WORKING = 0, DRAINING = 1, LEAVING = 2;

// Fields of packets (section 1): big-endian, strings and blobs behind their length.

const number = (size) => (n) => { const b = Buffer.alloc(size); b.writeUIntBE(n, 0, size); return b; };
const u8 = number(1), u16 = number(2), u32 = number(4);
const u64 = (n) => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); return b; };
const blob = (b) => Buffer.concat([u32(b.length), b]);

function str(text) {
  const b = Buffer.from(text);
  if (b.length > 255) throw new RangeError('more than 255 bytes');
  return Buffer.concat([u8(b.length), b]);
}

class Refused extends Error {}

class Reader {
  constructor(data) { this.data = data; }

  take(n) {
    if (n > this.data.length) throw new Refused('malformed packet: too short');
    const taken = this.data.subarray(0, n);
    this.data = this.data.subarray(n);
    return taken;
  }

  u8() { return this.take(1)[0]; }
  u16() { return this.take(2).readUInt16BE(); }
  u32() { return this.take(4).readUInt32BE(); }
  u64() { return Number(this.take(8).readBigUInt64BE()); }
  str() { return this.take(this.u8()); }
  blob() { return this.take(this.u32()); }

  key() {
    const key = this.take(6);
    if (key.equals(NOBODY)) throw new Refused('malformed packet: about nobody');
    return key;
  }

  state() {
    const state = this.blob();
    if (state.length > MAX_STATE) throw new Refused('malformed packet: state too large');
    return state;
  }

  // Attributes may be nothing at all: their length is 0 then, and there is no number of pairs.
  attributes() {
    const r = new Reader(this.take(this.u16()));
    const all = Object.create(null);
    for (let n = r.data.length && r.u16(); n > 0; n--) all[r.str()] = r.take(r.u16()).toString();
    return all;
  }
}

// down returns a packet to a gateway, with its length before it.
function down(key, type, parts) {
  const packet = Buffer.concat([Buffer.alloc(4), key, u32(type), ...parts]);
  if (packet.length - 4 > MAX_DOWN) throw new RangeError('packet too large');
  packet.writeUInt32BE(packet.length - 4);
  return packet;
}

// packets takes the stream apart. A packet that says it is too large is refused before anything of it is kept.
async function* packets(socket, most) {
  let data = Buffer.alloc(0);
  for await (const chunk of socket) {
    data = data.length ? Buffer.concat([data, chunk]) : chunk;
    while (data.length >= 4) {
      const length = data.readUInt32BE();
      if (length > most) throw new Refused(`packet of ${length} bytes`);
      if (data.length < 4 + length) break;
      yield data.subarray(4, 4 + length);
      data = data.subarray(4 + length);
    }
  }
}

// open takes a packet's header off, and returns whose it is.
function open(packet) {
  if (packet.length < 10 || packet.readUInt32BE() !== MAGIC) throw new Refused('malformed packet: no header');
  return [packet.subarray(4, 10), packet.subarray(10)];
}

const keyId = (secret) => createHash('sha256').update('gateway.v1 key id').update(secret).digest().subarray(0, 8);
const loopback = (address = '') => /^(::ffff:)?127\.|^::1$/.test(address);

// Session is a player (section 4). Events: packet(packet, type), flow(congested), closed(reason).
export class Session extends EventEmitter {
  phase = 'open'; // detached, gone, closed; attaching takes no time here, see Link.attach
  received = 0; // packets, since the session began
  written = 0; // packets that the kernel took
  unsent = []; // packets that it didn't take yet
  waiting = 0; // bytes of those
  groups = new Set();
  congested = false;
  lost = { up: 0, down: 0 }; // packets, with lost links

  constructor(gateway, key, fields) {
    super();
    Object.assign(this, { gateway, key, id: key.toString('hex') }, fields);
    gateway.sessions.set(this.id, this);
  }

  get live() { return this.phase === 'open' || this.phase === 'detached'; }

  // write sends packet, in the player's own WebSocket type or another, and reports whether it was taken. While the link is lost
  // it waits for the next one.
  write(packet, type = 0) {
    packet = Buffer.from(packet);
    if (!this.live || this.waiting > MAX_WAITING) return false;
    const data = down(this.key, type, [packet]);
    this.hold(packet, type);
    this.link?.send(data, [this]);
    return true;
  }

  hold(packet, type) {
    this.unsent.push({ packet, type });
    this.waiting += packet.length;
  }

  taken() {
    this.waiting -= this.unsent.shift().packet.length;
    this.written++;
  }

  // close closes the player, after what was written before; code is one of 4000 to 4999.
  close(code = 1008, reason = '') {
    let text = Buffer.from(reason).subarray(0, 123);
    while (text.toString().endsWith('\ufffd')) text = text.subarray(0, -1); // not half a character
    this.leaveHere('kicked', KICK, u16(code), str(text));
  }

  // release ends the session and keeps the player: its next packet opens another one, here or elsewhere.
  release() { this.leaveHere('released', RELEASE); }

  leaveHere(reason, type, ...parts) {
    if (!this.live) return;
    this.goodbye = [type, this.key, ...parts];
    this.link?.control(...this.goodbye);
    this.phase = 'gone';
    this.finish(reason);
  }

  // handoff asks the gateway to move the player to an endpoint called name. If there is none, nothing happens.
  handoff(name, state = Buffer.alloc(0)) {
    if (state.length > MAX_STATE) throw new RangeError('state too large');
    if (this.live) this.link?.control(HANDOFF, this.key, str(name), blob(state));
  }

  join(name) {
    if (!this.live || this.groups.has(name)) return;
    const { groups } = this.gateway.backend;
    this.link?.control(JOIN, str(name), this.key);
    this.groups.add(name);
    groups.set(name, (groups.get(name) ?? new Set()).add(this));
  }

  leave(name) {
    if (!this.groups.has(name)) return;
    this.link?.control(LEAVE, str(name), this.key);
    this.forget(name);
  }

  forget(name) {
    const { groups } = this.gateway.backend;
    this.groups.delete(name);
    groups.get(name).delete(this);
    if (!groups.get(name).size) groups.delete(name);
  }

  // attached answers OPEN, resumed, in which the gateway told its counts: from here on both sides know what was lost.
  attached(anew, written, received) {
    this.lost = { up: Math.max(0, written - this.received), down: Math.max(0, this.written - received) };
    this.link.control(ATTACHED, this.key, u32(this.attach), u8(anew), u64(this.received), u64(this.written));
  }

  // end forgets the session: its gateway has closed it, or has not come back in time.
  end(reason) {
    if (this.phase === 'closed') return;
    const known = this.phase === 'gone';
    this.phase = 'closed';
    clearTimeout(this.timer);
    this.link?.sessions.delete(this);
    this.gateway.sessions.delete(this.id);
    this.gateway.tidy();
    if (!known) this.finish(reason);
  }

  // expire ends a session that its gateway has not taken up in time. Should it do so after all, the counts go on.
  expire() {
    const { expired, backend } = this.gateway;
    if (this.phase === 'detached' && expired.size < MAX_EXPIRED) {
      const { received, written } = this;
      const timer = setTimeout(() => this.gateway.recall(this.id), EXPIRED_GRACES * backend.grace).unref();
      expired.set(this.id, { timer, counts: { received, written } });
    }
    this.end('lost');
  }

  finish(reason) {
    for (const name of this.groups) this.forget(name);
    this.fire('closed', reason);
  }

  // fire runs handlers. One that throws costs its player, not the link.
  fire(event, ...args) {
    try {
      this.emit(event, ...args);
    } catch (err) {
      this.gateway.backend.emit('fault', err, this);
      this.close(1008, 'handler failed');
    }
  }
}

// Gateway is one process that has links here.
class Gateway {
  sessions = new Map();
  links = new Set();
  expired = new Map(); // counts of sessions
  leaving = false;

  constructor(backend, id, name) { Object.assign(this, { backend, id, name }); }

  // recall returns what is known of a session that has expired, and forgets it.
  recall(id) {
    const { timer, counts } = this.expired.get(id) ?? {};
    clearTimeout(timer);
    this.expired.delete(id);
    this.tidy();
    return counts;
  }

  tidy() { if (!this.sessions.size && !this.links.size && !this.expired.size) this.backend.gateways.delete(this.id); }
}

// Link is one connection of a gateway.
class Link {
  sessions = new Set(); // those whose lane it is
  queue = [];
  waiting = 0; // bytes in queue
  dead = false;

  constructor(backend, socket) {
    Object.assign(this, { backend, socket });
    socket.setNoDelay(true);
    socket.on('error', (err) => this.destroy(err));
    socket.on('close', () => this.destroy(new Refused('closed by the gateway')));
    this.run();
  }

  async run() {
    const limit = setTimeout(() => this.destroy(new Refused('handshake takes too long')), HANDSHAKE);
    let quiet = 0, read = 0;
    const watch = setInterval(() => {
      quiet = this.socket.bytesRead === read ? quiet + 1 : 0;
      read = this.socket.bytesRead;
      if (quiet >= SILENCE) this.destroy(new Refused('silent'));
    }, 1000);
    try {
      const incoming = packets(this.socket, this.backend.maxPacket + HEADROOM);
      await this.shakeHands(incoming);
      clearTimeout(limit);
      let handled = 0;
      for await (const packet of incoming) {
        if (this.dead) break;
        this.handle(...open(packet));
        if (++handled % TURN === 0) await setImmediate();
      }
    } catch (err) {
      this.destroy(err);
    }
    clearTimeout(limit);
    clearInterval(watch);
  }

  // shakeHands is section 3.
  async shakeHands(incoming) {
    const next = async (type) => {
      const { value, done } = await incoming.next();
      if (done) throw new Refused('ended during the handshake');
      const [key, body] = open(value);
      if (!key.equals(NOBODY) || body[0] !== type) throw new Refused(`handshake: not the packet of type ${type} that is due`);
      return new Reader(body.subarray(1));
    };
    const { secrets, instance, name } = this.backend;
    const hello = await next(HELLO);
    const versions = hello.take(2), theirs = hello.take(16), theirNonce = hello.take(32), theirName = hello.str();
    const ids = Array.from({ length: hello.u8() }, () => hello.take(8));
    if (!versions[0] || versions[0] > versions[1]) throw new Refused('malformed packet: versions');
    if (versions[0] > VERSION || versions[1] < VERSION) throw new Refused('no common version');
    const secret = secrets.find((each) => ids.some((id) => id.equals(keyId(each))));
    if (secrets.length && !secret) throw new Refused('no common secret');

    const nonce = randomBytes(32);
    const proof = (role) => {
      const fields = [Buffer.from(role), versions, theirs, theirNonce, theirName, ...ids,
        u8(VERSION), instance, nonce, Buffer.from(name), keyId(secret), Buffer.alloc(0)]; // no TLS, no exporter
      return createHmac('sha256', secret).update(Buffer.concat(fields.map(blob))).digest();
    };
    const proven = secret ? [u8(1), keyId(secret), str(proof('backend'))] : [u8(0), str('')];
    this.control(WELCOME, u8(VERSION), instance, nonce, str(name), ...proven);
    if (secret) {
      const given = (await next(AUTH)).str();
      if (given.length !== 32 || !timingSafeEqual(given, proof('gateway'))) throw new Refused('wrong secret');
    }
    if (this.dead) throw new Refused('ended during the handshake');
    this.control(READY, u8(this.backend.state));

    const { gateways } = this.backend, id = theirs.toString('hex');
    this.gateway = gateways.get(id) ?? new Gateway(this.backend, id, theirName.toString());
    gateways.set(id, this.gateway);
    this.gateway.links.add(this);
    this.gateway.leaving = false; // it is back
    this.backend.links.add(this);
    this.backend.emit('link', this.gateway.name);
  }

  // handle is one packet of section 2. What is not listed there, or a gateway doesn't send, is ignored.
  handle(key, body) {
    const find = (id) => this.gateway.sessions.get(id.toString('hex'));
    if (!key.equals(NOBODY)) {
      const session = find(key);
      if (session?.link !== this || !session.live) return; // closed, on another lane, or gone
      session.received++;
      session.fire('packet', body, session.type);
      return;
    }
    const r = new Reader(body);
    switch (r.u8()) {
      case OPEN: return this.opened(r);
      case CLOSE: return this.closed(r.key(), r.u32(), r.u8());
      case TYPE: {
        const session = find(r.key()), type = r.u8();
        if (session?.link === this) session.type = type;
        return;
      }
      case FLOW:
        while (r.data.length) {
          const session = find(r.key()), congested = r.u8() !== 0;
          if (session?.link !== this || !session.live || session.congested === congested) continue;
          session.congested = congested;
          session.fire('flow', congested);
        }
        return;
      case PING: return this.control(PONG, r.take(8));
      case GOAWAY:
        r.u8();
        this.gateway.leaving = true;
        return;
      case HELLO: case AUTH: throw new Refused('handshake: it is over');
    }
  }

  opened(r) {
    const key = r.key(), attach = r.u32(), resumed = r.u8() & 1, written = r.u64(), received = r.u64(), type = r.u8();
    const transport = r.str().toString(), address = r.str().toString(), attributes = r.attributes(), state = r.state();
    const before = this.gateway.sessions.get(key.toString('hex'));
    if (before && attach <= before.attach) return;
    if (before && resumed) return this.attach(before, attach, written, received, type);
    before?.end('opened anew');
    const past = this.gateway.recall(key.toString('hex'));
    const fields = { link: this, attach, type, transport, address, attributes, state, ...(resumed && past) };
    const session = new Session(this.gateway, Buffer.from(key), fields);
    this.sessions.add(session);
    // If it hasn't expired, it has had nothing: if its first OPEN was lost, so was what came behind it.
    if (resumed) session.attached(1, written, received);
    try {
      this.backend.emit('session', session);
    } catch (err) {
      this.backend.emit('fault', err, session);
      session.close(1008, 'handler failed');
    }
  }

  // attach is section 5. The old link's socket is closed at once, and nothing is written there from then on: so there is
  // nothing to wait for before ATTACHED.
  attach(session, attach, written, received, type) {
    const old = session.link;
    old?.sessions.delete(session);
    if (old !== this) old?.destroy(new Refused('its sessions came over another link'));
    clearTimeout(session.timer);
    Object.assign(session, { link: this, attach, type });
    this.sessions.add(session);
    const rest = [...session.unsent];
    if (session.live) {
      session.phase = 'open';
      session.attached(0, written, received);
      for (const name of session.groups) this.control(JOIN, str(name), session.key);
    }
    for (const { packet, type } of rest) this.send(down(session.key, type, [packet]), [session]);
    if (session.phase === 'gone') this.control(...session.goodbye); // the gateway has not heard it
  }

  closed(key, attach, reason) {
    let session = this.gateway.sessions.get(key.toString('hex'));
    if (attach < session?.attach) session = undefined; // a late one, which is not about this session
    let state = Buffer.alloc(0);
    if (reason === MOVED && session?.live) {
      try {
        const given = this.backend.moveState(session);
        if (given?.length <= MAX_STATE) state = given;
      } catch (err) {
        this.backend.emit('fault', err, session);
      }
    }
    session?.end(REASONS[reason] ?? 'closed');
    this.gateway.recall(key.toString('hex')); // its counts are of no use any more
    if (reason === MOVED) this.control(CLOSED, key, u32(attach), blob(state)); // behind what was written before
  }

  control(type, ...parts) { this.send(down(NOBODY, 0, [u8(type), ...parts])); }

  // send writes data, which is a packet of each of sessions, behind what is queued.
  send(data, sessions = []) {
    if (this.dead) return;
    this.queue.push({ data, sessions });
    this.waiting += data.length;
    this.pump();
  }

  // pump gives the socket one packet at a time, so that it is known of each one whether the kernel took it: the counts of
  // section 5 depend on that.
  pump() {
    const { socket, queue } = this;
    while (!this.dead && queue.length && socket.writable && socket.writableLength === 0) {
      const { data, sessions } = queue.shift();
      this.waiting -= data.length;
      let taken = false;
      const take = () => { taken = true; for (const session of sessions) session.taken(); };
      socket.write(data, (err) => {
        if (err || taken || this.dead) return;
        take();
        this.pump();
      });
      if (socket.writableLength === 0 && !socket.errored) take();
    }
  }

  // destroy closes the link. Its sessions wait for another one.
  destroy(why) {
    if (this.dead) return;
    this.dead = true;
    this.socket.destroy();
    this.backend.connections.delete(this);
    if (!this.gateway) return this.backend.emit('refused', why);
    this.backend.links.delete(this);
    this.gateway.links.delete(this);
    for (const session of [...this.sessions]) {
      session.link = null;
      if (session.phase === 'open') session.phase = 'detached';
      if (this.gateway.leaving) session.end(REASONS[4]);
      else session.timer = setTimeout(() => session.expire(), this.backend.grace);
    }
    this.gateway.tidy();
    this.backend.emit('unlink', this.gateway.name, why);
  }
}

// Backend listens for gateways. Events: session(session), link(gateway), unlink(gateway, why), refused(why),
// fault(error, session).
export class Backend extends EventEmitter {
  instance = randomBytes(16);
  state = WORKING;
  gateways = new Map();
  groups = new Map(); // sessions by name
  connections = new Set();
  links = new Set(); // those of connections that are ready

  // secrets: the current one first; with none, only gateways on the same machine are trusted. moveState is asked, when a session
  // is moved, for the state that the next backend gets.
  constructor({ name = '', secrets = [], grace = GRACE, maxPacket = 64 << 10, moveState = () => null } = {}) {
    super();
    str(name); // throws if it is too long
    Object.assign(this, { name, grace, maxPacket, moveState, secrets: secrets.map((secret) => Buffer.from(secret)) });
    if (this.secrets.some((secret) => secret.length < 16)) throw new RangeError('a secret has at least 16 bytes');
    this.server = net.createServer((socket) => {
      if (this.secrets.length || loopback(socket.remoteAddress)) this.connections.add(new Link(this, socket));
      else socket.destroy();
    });
  }

  async listen(port, host) {
    this.server.listen(port, host);
    await once(this.server, 'listening');
    return this.server.address();
  }

  // drain tells the gateways that this backend is working, draining or leaving.
  drain(state) {
    this.state = state;
    for (const link of this.links) link.control(DRAIN, u8(state));
  }

  *sessions() { for (const { sessions } of this.gateways.values()) for (const s of sessions.values()) if (s.live) yield s; }

  // cast sends one packet to many sessions: one copy over each link (section 7).
  cast(sessions, packet, type = 0) {
    this.#cast(sessions, packet, type, (list) => [u8(0), u32(list.length), ...list.map((session) => session.key)]);
  }

  castGroup(name, packet, type = 0) { this.#cast(this.groups.get(name) ?? [], packet, type, () => [u8(1), str(name)]); }

  castAll(packet, type = 0) { this.#cast(this.sessions(), packet, type, () => [u8(2)]); }

  // castLane is castAll for the lane that session is on.
  castLane(session, packet, type = 0) { this.#cast(session.link?.sessions ?? [session], packet, type, () => [u8(2)]); }

  #cast(sessions, packet, type, whom) {
    packet = Buffer.from(packet);
    const lanes = new Map();
    for (const session of new Set(sessions)) {
      if (session.phase === 'detached') session.write(packet, type);
      else if (session.phase === 'open') lanes.get(session.link)?.push(session) ?? lanes.set(session.link, [session]);
    }
    for (const [link, list] of lanes) {
      if (link.waiting > MAX_WAITING) continue; // it doesn't read
      const data = down(NOBODY, 0, [u8(CAST), u8(type), ...whom(list), packet]);
      for (const session of list) session.hold(packet, type);
      link.send(data, list);
    }
  }

  // close ends everything. Sessions that should live on elsewhere are moved by drain(LEAVING) before.
  async close() {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const session of [...this.sessions()]) session.end('backend leaving');
    for (const link of this.connections) link.socket.destroySoon();
    await closed;
  }
}
