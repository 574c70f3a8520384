"""asyncio.Barrier: python3 asyncio_barrier.py asyncio|uvloop PARTIES TRIPS"""
import asyncio
import sys
import time


async def main(parties, trips):
    barrier = asyncio.Barrier(parties)

    async def body():
        for _ in range(trips):
            await barrier.wait()

    tasks = [asyncio.create_task(body()) for _ in range(parties - 1)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(body()))
    start = time.process_time()
    await asyncio.gather(*tasks)
    return (time.process_time() - start) / parties / trips * 1e9


loop, parties, trips = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if loop == "uvloop":
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
print(f"{asyncio.run(main(parties, trips)):.2f}")
