"""What the nodes' proxies do for a Service: each connection goes to one of its ready endpoints."""

import asyncio
import itertools
import threading

CHUNK_BYTES = 65_536


class Service(threading.Thread):
    """One address in front of those that are ready; `addresses` may be replaced at any time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.addresses = []
        self.port = 0
        self.connections = 0
        self._turn = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._open = threading.Event()

    def open(self):
        """Starts; returns the port on 127.0.0.1."""
        self.start()
        self._open.wait()
        return self.port

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join()

    def run(self):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024))
        self.port = server.sockets[0].getsockname()[1]
        self._open.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader, writer):
        addresses = self.addresses
        try:
            host, port = addresses[next(self._turn) % len(addresses)].rsplit(":", 1)
            other_reader, other_writer = await asyncio.open_connection(host, int(port))
        except (OSError, ZeroDivisionError):
            writer.transport.abort()
            return
        self.connections += 1
        await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))


async def copy(reader, writer):
    """Everything from one to the other, then its end."""
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()
    except OSError:
        writer.transport.abort()
