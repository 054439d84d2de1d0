"""The conversation by Python's websockets: python3 websockets_client.py URL ENDING"""
import asyncio
import json
import sys

import websockets

TEXTS = 50
SIZE = 64 * 1024
PATIENCE = 20  # s, for each answer


async def converse(url, ending):
    ws = await asyncio.wait_for(websockets.connect(url), PATIENCE)

    async def expect(want):
        got = await asyncio.wait_for(ws.recv(), PATIENCE)
        if got != want:  # a str is never equal to bytes
            raise ValueError(f"got {got[:80]!r}, want {want[:80]!r}")

    for loud, move in ((True, "move"), (False, "switch"), (True, "")):
        word = "ÄPFEL" if loud else "äpfel"
        for i in range(TEXTS):
            await ws.send(f"äpfel {i}")
        for i in range(TEXTS):
            await expect(f"{word} {i}")
        await ws.send(b"a" * SIZE)
        await expect((b"A" if loud else b"a") * SIZE)
        if move:
            await ws.send(move)
    if ending == "theirs":
        await ws.send("bye")
    else:
        await ws.close(4000, "that was it")
    await asyncio.wait_for(ws.wait_closed(), PATIENCE)
    return {"code": ws.close_code, "reason": ws.close_reason, "clean": ws.close_code != 1006}


async def main(url, ending):
    try:
        outcome = await converse(url, ending)
    except Exception as err:  # whatever it is, the test is told
        outcome = {"error": repr(err)}
    print(json.dumps(outcome))


asyncio.run(main(*sys.argv[1:]))
