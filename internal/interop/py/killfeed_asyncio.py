"""The same as killfeed_threads.py, with the client for asyncio. A close cancels the task of the loop."""
import asyncio
import json
import sys
import threading

from own import AGENT, fail, hooks, killfeed, next_of, page_of, place_of
from lines import say

import killfeed.aio  # behind own, which knows where it is

base, mode, *given = sys.argv[1:]
feed = killfeed.aio.Client(base, user_agent=AGENT)


async def call(name, client_id=None, event_id=None, to=None, **options):
    match name:
        case "poll" | "next":
            if client_id is not None:
                options["client_id"] = client_id
            return page_of(await feed.poll(**options)) if name == "poll" else next_of(await feed.next(**options))
        case "commit":
            return {"offsets": await feed.commit(client_id, event_id, **options)}
        case "seek":
            return place_of(await feed.seek(client_id, to, **options))
        case "place":
            return place_of(await feed.place(client_id))


async def follow(step, options, commands):
    async with feed.stream(**options, **hooks()) as stream:
        async for event in stream:
            say(on="event", event_id=event.event_id, cursor=event.cursor)
            name = await commands.get() if step else "go"
            if name == "leave":
                break
            if name == "commit":
                await stream.commit()
                say(on="committed")


async def main():
    loop, commands = asyncio.get_running_loop(), asyncio.Queue()

    def listen():
        for text in sys.stdin:
            loop.call_soon_threadsafe(commands.put_nowait, json.loads(text))
        loop.call_soon_threadsafe(commands.put_nowait, None)

    threading.Thread(target=listen, daemon=True).start()
    if mode == "calls":
        while (options := await commands.get()) is not None:
            name = options.pop("do")
            try:
                say(on=name, **await call(name, **options))
            except killfeed.KillfeedError as error:
                fail(error)
        return
    options = json.loads(given[0])
    steps = asyncio.Queue()
    loop_task = asyncio.create_task(follow(options.pop("step", False), options, steps))

    async def obey():
        while (command := await commands.get()) is not None:
            if command["do"] == "close":
                loop_task.cancel()
            else:
                steps.put_nowait(command["do"])

    obeying = asyncio.create_task(obey())
    try:
        await loop_task
        say(on="end")
    except asyncio.CancelledError:
        say(on="end")
    except killfeed.KillfeedError as error:
        fail(error)
    obeying.cancel()


asyncio.run(main())
