// What a WebSocket client in JavaScript has to say, in a browser as in Node.js. The gateway behind url plays along: see realclient_test.go.
'use strict';

const texts = 50;
const size = 64 * 1024;
const patience = 20000; // ms, for each answer

// converse has the whole conversation, and returns how it ended: {code, reason, clean}.
async function converse(WebSocket, url, ending) {
  const { next, socket, closed } = await open(WebSocket, url);
  const expect = (got, want, what) => {
    if (got !== want) throw new Error(`${what}: got ${String(got).slice(0, 80)}, want ${String(want).slice(0, 80)}`);
  };
  for (const [loud, move] of [[true, 'move'], [false, 'switch'], [true, '']]) {
    const word = (i) => (loud ? `ÄPFEL ${i}` : `äpfel ${i}`);
    for (let i = 0; i < texts; i++) socket.send(`äpfel ${i}`);
    for (let i = 0; i < texts; i++) expect(await next(), word(i), 'text');
    socket.send(new Uint8Array(size).fill('a'.charCodeAt(0)));
    const large = await next();
    if (!(large instanceof ArrayBuffer)) throw new Error('a binary message was answered by a text');
    expect(large.byteLength, size, 'size');
    const letter = (loud ? 'A' : 'a').charCodeAt(0);
    expect(new Uint8Array(large).every((b) => b === letter), true, 'content');
    if (move) socket.send(move);
  }
  if (ending === 'theirs') socket.send('bye');
  else socket.close(4000, 'that was it');
  const { code, reason, wasClean } = await within(closed, 'close');
  return { code, reason, clean: wasClean !== false };
}

// open connects. next() resolves to what comes, in its order.
async function open(WebSocket, url) {
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  const came = [];
  let arrived = () => {};
  socket.onmessage = (e) => { came.push(e.data); arrived(); };
  const closed = new Promise((resolve) => { socket.onclose = resolve; });
  await within(new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error('refused'));
  }), 'open');
  socket.onerror = null;
  const next = async () => {
    if (came.length === 0) await within(new Promise((resolve) => { arrived = resolve; }), 'message');
    return came.shift();
  };
  return { next, socket, closed };
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`no ${what} came`)), patience); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// report returns the outcome of one conversation, an error included.
async function report(WebSocket, url, ending) {
  try {
    return await converse(WebSocket, url, ending);
  } catch (err) {
    return { error: String(err.message || err) };
  }
}

if (typeof module !== 'undefined') module.exports = { report };
