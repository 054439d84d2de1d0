// A game server behind a gateway, for trying backend.mjs out. It sends every packet back, but for these:
//
//   close CODE REASON   closes the player             count           how many packets the session has sent, this one too
//   release             ends the session              opens           how many sessions were opened in this process
//   handoff NAME        moves the player there        who             what is known of the player
//   join ROOM           leave ROOM                    say ROOM TEXT   to everybody in the room
//   all TEXT            to everybody on the lane      others TEXT     to everybody but the player, by their keys
//   everyone TEXT       to everybody on every lane
//
//   node server.mjs --listen 127.0.0.1:9001 [--secret SECRET] [--name NAME] [--grace MS]

import { parseArgs } from 'node:util';
import { Backend, LEAVING } from './backend.mjs';

const DRAIN_TIME = 1000; // ms for players to be moved elsewhere at the end

const { values: flags } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:9001' },
    secret: { type: 'string' },
    name: { type: 'string', default: 'node' },
    grace: { type: 'string', default: '10000' },
  },
});

// The count of a session that is moved goes with it.
const count = (session) => Buffer.from(String(session.count));
const backend = new Backend({
  name: flags.name, secrets: flags.secret ? [flags.secret] : [], grace: Number(flags.grace), moveState: count,
});
let opens = 0;

const commands = {
  close: (session, code, ...reason) => session.close(Number(code), reason.join(' ')),
  release: (session) => session.release(),
  handoff: (session, name) => session.handoff(name, count(session)),
  join: (session, room) => session.join(room),
  leave: (session, room) => session.leave(room),
  say: (session, room, ...text) => backend.castGroup(room, text.join(' ')),
  all: (session, ...text) => backend.castLane(session, text.join(' ')),
  everyone: (session, ...text) => backend.castAll(text.join(' ')),
  others: (session, ...text) => backend.cast([...backend.sessions()].filter((each) => each !== session), text.join(' ')),
  count: (session) => session.write(count(session)),
  opens: (session) => session.write(String(opens)),
  who(session) {
    const { address, transport, type, congested, attributes } = session;
    session.write(JSON.stringify({ address, transport, type, congested, attributes }));
  },
};

backend.on('session', (session) => {
  opens++;
  session.count = Number(session.state.toString());
  session.on('packet', (packet) => {
    session.count++;
    const [word, ...args] = packet.toString().split(' ');
    if (Object.hasOwn(commands, word)) commands[word](session, ...args);
    else session.write(packet);
  });
  session.on('closed', (reason) => { if (reason === 'lost') console.error('expired', session.address); });
});
for (const event of ['link', 'unlink', 'refused', 'fault']) {
  backend.on(event, (...about) => console.error(event, ...about.map((each) => each?.message ?? each)));
}

// The gateways are asked to move the players elsewhere. Whoever has nowhere to go stays to the end.
async function end() {
  process.once('SIGINT', () => process.exit(1)); // a second Ctrl-C ends the process at once
  backend.drain(LEAVING);
  const limit = Date.now() + DRAIN_TIME;
  while (!backend.sessions().next().done && Date.now() < limit) await new Promise((resolve) => setTimeout(resolve, 10));
  await backend.close();
}
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, end);

const at = flags.listen.lastIndexOf(':');
const { address, port } = await backend.listen(Number(flags.listen.slice(at + 1)), flags.listen.slice(0, at));
console.log(`listening on ${address}:${port}`);
