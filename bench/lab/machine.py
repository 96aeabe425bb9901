"""The machine: what it is, how quiet it is, and what a process has used of it. From /proc."""
import contextlib
import hashlib
import mmap
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def output(*command):
    return subprocess.run([str(c) for c in command], check=False, capture_output=True, text=True).stdout.strip()


def describe():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = int(open("/proc/meminfo").readline().split()[1]) / (1 << 20)
    return f"{os.cpu_count()} CPUs ({model}), {memory:.0f} GiB, Linux {platform.release()}"


def usage(pid):
    """CPU seconds and bytes written to disk since the start, and resident MiB now and at most."""
    proc = Path("/proc") / str(pid)
    ticks = (proc / "stat").read_text().rsplit(")", 1)[1].split()
    fields = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    written = dict(line.split(": ") for line in (proc / "io").read_text().splitlines())["write_bytes"]
    mib = lambda key: int(fields[key].split()[0]) / 1024
    return {"cpu": (int(ticks[11]) + int(ticks[12])) / TICK, "written": int(written),
            "rss": mib("VmRSS"), "peak": mib("VmHWM")}


def rests(pid, patience):
    """Waits until a process takes less than a twentieth of a CPU; False: it has not within patience seconds."""
    end, before = time.monotonic() + patience, usage(pid)["cpu"]
    while time.monotonic() < end:
        time.sleep(0.4)
        now = usage(pid)["cpu"]
        if now - before <= 0.02:
            return True
        before = now
    return False


def have_memory(most):
    """Has the machine's free memory really there, as far as a row needs it. What a virtual machine has not used
    for a while its host may have taken back; the first to touch it again pays 3 us a KiB, by no fault of his."""
    free = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemFree"))) << 10
    with contextlib.suppress(OSError, ValueError):
        mmap.mmap(-1, min(most, free // 2), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def busy():
    """CPU seconds that the machine has spent, whoever for, and that were taken away from it (steal)."""
    user, nice, system, _, _, irq, soft, steal = (int(v) for v in open("/proc/stat").readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / TICK


def spin():
    """Milliseconds that a fixed piece of work takes on every CPU at once: how fast the machine is now."""
    block, children = b"x" * (1 << 20), []
    for _ in range(os.cpu_count()):
        pid = os.fork()
        if pid == 0:
            for _ in range(40):
                hashlib.sha256(block)
            os._exit(0)
        children.append((pid, time.perf_counter()))
    took = []
    for pid, began in children:
        os.waitpid(pid, 0)
        took.append((time.perf_counter() - began) * 1000)
    return max(took)


def fdatasync():
    """Milliseconds of appending 4 KiB to a file and fdatasync, the median of 100."""
    took = []
    with tempfile.NamedTemporaryFile(prefix="firth-bench.") as f:
        for _ in range(100):
            began = time.perf_counter()
            os.write(f.fileno(), b"x" * 4096)
            os.fdatasync(f.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[50]


def noise():
    return {"load": os.getloadavg()[0], "spin": spin(), "fdatasync": fdatasync()}


def drop_cache(folder):
    """Takes the files of a folder out of the page cache, so that reading them reaches the disk."""
    os.sync()
    for path in Path(folder).rglob("*"):
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError:  # gone meanwhile, or not a file
            continue
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
