"""Probes of a pod's real process: HTTP, TCP or a command, as the pod's spec says."""

import asyncio
import ssl


async def succeeds(probe, address, ports, environment, timeout):
    """Whether a probe finds what it looks for, once."""
    try:
        async with asyncio.timeout(timeout):
            if probe.get("httpGet"):
                return await _http(probe["httpGet"], address, ports)
            if probe.get("tcpSocket"):
                _, writer = await asyncio.open_connection(
                    address, number(probe["tcpSocket"]["port"], ports)
                )
                writer.close()
                return True
            if probe.get("exec"):
                child = await asyncio.create_subprocess_exec(
                    *probe["exec"]["command"],
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                )
                try:
                    return await child.wait() == 0
                finally:
                    if child.returncode is None:
                        child.kill()
    except (OSError, TimeoutError, EOFError, ValueError):
        return False
    return True


def number(port, ports):
    """A port's number, from its number or its name."""
    if isinstance(port, int):
        return port
    return ports[port] if port in ports else int(port)


async def _http(action, address, ports):
    context = None
    if action.get("scheme") == "HTTPS":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    port = number(action["port"], ports)
    reader, writer = await asyncio.open_connection(address, port, ssl=context)
    try:
        lines = [
            f"GET {action.get('path', '/')} HTTP/1.1",
            f"Host: {address}:{port}",
            "User-Agent: kube-probe/1.34",
            "Accept: */*",
            "Connection: close",
        ]
        lines += [f"{h['name']}: {h['value']}" for h in action.get("httpHeaders") or ()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = await reader.readline()
        return 200 <= int(answer.split()[1]) < 400
    except IndexError:
        return False
    finally:
        writer.close()
