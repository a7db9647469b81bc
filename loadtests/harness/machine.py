"""The machine: its cores, what else runs on them, and whether figures can be trusted."""

import os
import pathlib
import platform
import subprocess
import time

# More than this much of a core used by others, or taken by the hypervisor, spoils figures.
FOREIGN_SHARE_MAX = 0.05
STOLEN_SHARE_MAX = 0.01
QUIET_SECONDS = 2.0


# Asked once: later this program keeps to some of them itself.
ALL_CORES = sorted(os.sched_getaffinity(0))


class Cores:
    """Who runs where: proxies on `proxy`, the load and the server behind on `load`."""

    def __init__(self, proxies=1):
        cores = self.all = ALL_CORES
        self.proxy = cores[:proxies]
        self.load = cores[proxies:] or cores[-1:]
        self.overlap = len(cores) <= proxies

    @staticmethod
    def words(cores):
        return ",".join(map(str, cores))


def cpu_times():
    """(busy, stolen, total) of the whole machine so far, in seconds summed over cores."""
    fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    values = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields[:8]]
    user, nice, system, idle, waiting, interrupt, soft, stolen = values
    busy = user + nice + system + interrupt + soft
    return busy, stolen, sum(values)


class Noise:
    """What others took of the machine between two points in time."""

    def __init__(self):
        self.before = cpu_times()

    def end(self):
        after = cpu_times()
        busy, stolen, total = (after[i] - self.before[i] for i in range(3))
        total = max(total, 1e-9)
        return {"busy_share": busy / total, "stolen_share": stolen / total}


def disturbance():
    """Says why this machine is too busy to be measured on, or None. Takes two seconds."""
    noise = Noise()
    time.sleep(QUIET_SECONDS)
    seen = noise.end()
    load = os.getloadavg()[0]
    reasons = []
    if seen["busy_share"] > FOREIGN_SHARE_MAX:
        reasons.append(f"other programs use {seen['busy_share']:.0%} of its processors")
    if seen["stolen_share"] > STOLEN_SHARE_MAX:
        reasons.append(f"the hypervisor takes {seen['stolen_share']:.0%} of its time")
    if load > len(ALL_CORES):
        reasons.append(f"its load average is {load:.1f}")
    return ", ".join(reasons) or None


def first_line(command):
    """The first line that a program says about itself, on either output; empty without it."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    return lines[0].strip() if lines else ""


def description():
    """What a reader needs to judge the figures."""
    model = ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": len(ALL_CORES),
        "memory_bytes": pages,
        "kernel": platform.release(),
        "machine": platform.machine(),
    }
