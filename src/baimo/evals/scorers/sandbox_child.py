# pyright: basic
"""Runs a model's Python code and its tests in a process that gave up what it does not need.

A script on its own (standard library only, run by `sandbox.py`, never imported): it reads one JSON object from stdin
and writes one to stdout. Prevents the failure where code that a model wrote reads the company's files, calls home,
fills the disk or outlives its test. Layers, each reported when it holds: user, network, PID and IPC namespaces;
Landlock (writes only in the temporary folder, reads only there and in the Python installation); resource limits; where
namespaces are not allowed, an audit hook, which stops accidents but not an attacker.
"""

import contextlib
import ctypes
import json
import os
import signal
import struct
import sys
import traceback
import types
from pathlib import Path

_NAMESPACES = 0x10000000 | 0x40000000 | 0x20000000 | 0x08000000  # user, net, pid, ipc: linux/sched.h
_PROCESSES = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn")
_BLOCKED = (*_PROCESSES, "socket.", "ctypes.")


def main() -> None:
    """Isolate, fork, run the code in the child, report how it ended."""
    job = json.loads(sys.stdin.buffer.read())
    held = ["namespaces"] if _unshare() else []
    inner_out, inner_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(inner_out)
        _run(job, inner_in, held)
    os.close(inner_in)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.alarm(job["wall_seconds"])
    with os.fdopen(inner_out, "rb") as pipe:
        lines = pipe.read(1 << 20).splitlines()
    _, status = os.waitpid(pid, 0)
    signal.alarm(0)
    report = {"status": "left", "detail": "", "passed": [], "isolation": held}
    for line in lines:
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if message.pop("token", None) == job["token"]:
                report["passed"] += message.pop("passed", [])
                report.update(message)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        report["status"] = "timeout" if number in (signal.SIGXCPU, signal.SIGKILL) else "crash"
        report["detail"] = signal.Signals(number).name
    sys.stdout.write(json.dumps(report))
    sys.stdout.flush()


def _run(job: dict, results: int, held: list) -> None:
    """In the child: never returns."""
    try:
        _send = _sender(results, job["token"])
        sink = os.open("output.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        _die_with_parent()
        held += _limit(job)
        if _landlock():
            held.append("files")
        if "namespaces" not in held:
            sys.addaudithook(_refuse)
            held.append("audit hook")
        elif os.getuid() == 0:
            sys.addaudithook(_refuse_processes)  # the kernel does not hold root to RLIMIT_NPROC
        _send({"isolation": held})
        _send(_tested(job, _send))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            _send({"status": _kind(error), "detail": _described(error)})
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        os._exit(0)


def _tested(job: dict, send) -> dict:
    """Run the code, then each test; every test that passes is reported at once, so a later hang loses nothing."""
    module = types.ModuleType("solution")
    module.__file__ = "solution.py"
    sys.modules["solution"] = module
    sys.path.insert(0, str(Path.cwd()))
    try:
        exec(compile(job["code"], "solution.py", "exec"), module.__dict__)
    except BaseException as error:
        return {"status": _kind(error), "detail": _described(error)}
    worst, detail = "pass", ""
    for number, test in enumerate(job["tests"]):
        try:
            exec(compile(test, f"test_{number + 1}.py", "exec"), module.__dict__)
            send({"passed": [number]})
        except BaseException as error:
            worst, detail = _kind(error), detail or _described(error)
            if worst == "memory":
                break
    return {"status": worst, "detail": detail}


def _kind(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    return "left" if isinstance(error, SystemExit) else "fail"


def _described(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1:] if error.__traceback__ else []
    where = f" ({last[0].filename}, line {last[0].lineno})" if last else ""
    return f"{type(error).__name__}: {str(error)[:500]}{where}"


def _sender(descriptor: int, token: str):
    def send(message: dict) -> None:
        os.write(descriptor, json.dumps({"token": token, **message}).encode() + b"\n")

    return send


def _limit(job: dict) -> list:
    import resource

    wanted = {
        "RLIMIT_CPU": (job["seconds"], job["seconds"] + 1),
        "RLIMIT_AS": (job["memory"], job["memory"]),
        "RLIMIT_FSIZE": (1 << 20, 1 << 20),
        "RLIMIT_NOFILE": (64, 64),
        "RLIMIT_NPROC": (job["processes"], job["processes"]),
        "RLIMIT_CORE": (0, 0),
    }
    held = True
    for name, pair in wanted.items():
        try:
            resource.setrlimit(getattr(resource, name), pair)
        except (AttributeError, ValueError, OSError):
            held = False
    return ["limits"] if held else ["some limits"]


def _libc():
    return ctypes.CDLL(None, use_errno=True)


def _unshare() -> bool:
    """Leave the network and everyone else's processes behind; whether the kernel allowed it."""
    return sys.platform == "linux" and _libc().unshare(_NAMESPACES) == 0


def _die_with_parent() -> None:
    if sys.platform == "linux":
        _libc().prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def _landlock() -> bool:
    """Writes only below the working folder; reads only there and in the Python installation.

    https://docs.kernel.org/userspace-api/landlock.html; numbers from linux/landlock.h.
    """
    if sys.platform != "linux":
        return False
    libc = _libc()
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    everything = (1 << (13 + (version >= 2) + (version >= 3) + (version >= 5))) - 1
    network, scopes = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("=QQQ", everything, network, scopes)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = libc.syscall(444, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    reading = 1 | 4 | 8  # execute, read files, read folders
    for path in {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/lib", "/lib64", "/etc/ld.so.cache"}:
        _allow(libc, rules, path, reading)
    for path in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"):
        _allow(libc, rules, path, 2 | 4)
    _allow(libc, rules, str(Path.cwd()), everything)
    if libc.prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS
        return False
    return libc.syscall(446, rules, 0) == 0


def _allow(libc, rules: int, path: str, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not Path(path).is_dir():
        access &= 1 | 2 | 4 | (1 << 14)
    libc.syscall(445, rules, 1, struct.pack("=Qi", access, descriptor), 0)
    os.close(descriptor)


def _refuse(event: str, arguments: tuple) -> None:
    if event.startswith(_BLOCKED):
        raise PermissionError(f"{event} is not allowed here")


def _refuse_processes(event: str, arguments: tuple) -> None:
    if event.startswith(_PROCESSES):
        raise PermissionError(f"{event} is not allowed for root")


if __name__ == "__main__":
    main()
