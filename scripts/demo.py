"""`make demo`: the whole loop on the embedded model: compare, tune, compare again, and ask the one that came out.

    python scripts/demo.py FOLDER

Everything is done by the command line that users have. FOLDER keeps the two reports, the id of the second one's run,
and a workspace that the console can be opened on; a workspace that is there from before is begun anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from baimo.text import language

ROOT = Path(__file__).parents[1]
TASK = Path("examples", "smart-home")
PROMPT = "short"
SYSTEM = "Reply with the action as JSON."
QUESTION = "Could you dim the lights in the bedroom to thirty percent, please?"
LEARN = ("--set", "upper=1", "--set", "n_epochs=1", "--set", "batch_size=16")
"""All layers, one pass of many small steps: the sentences of a generator are alike, a second pass adds little."""
MATTERS = ("--epsilon", "0.05")
"""Prompts that are right in 1 or 3 of 100 cases are equally useless."""
SAID = {
    "en": {
        "compare": "Which prompt suits the embedded model best?",
        "tune": "It learns from the train split; the test split is never read for that.",
        "again": "The tuned model among the candidates:",
        "whole": "The best before and the tuned one on every example that is held out:",
        "serve": "The tuned model is asked over HTTP:",
        "exact": "exact JSON",
        "language": "language",
        "before": "before",
        "after": "after",
        "all": "all",
        "alone": "{model} is tier 1, alone.",
        "not_alone": "{model} is not alone in tier 1.",
        "parity": "Served as trained: template, logits and text agree on {prompts} prompts "
        "({identical} greedy texts identical, logits differ by {max_logit_difference:.4f} at most).",
        "no_parity": "What is served is not what was trained.",
        "minutes": "Minutes: {steps}; in all {total:.1f}",
        "reports": "Reports: {before}, {after}",
        "console": "The console, with everything of this demo in it (the link works once):",
        "serving": "The server runs until you press Ctrl-C. Ask it yourself:",
        "start": "Start the server and ask it yourself; its console takes the key of the curl line:",
    },
    "zh": {
        "compare": "内置模型用哪种提示词最好？",
        "tune": "用训练集微调；测试集从不参与学习。",
        "again": "微调后的模型加入候选，再比较一次：",
        "whole": "微调前的最佳者与微调后的模型，跑完全部留出样例：",
        "serve": "通过 HTTP 调用微调后的模型：",
        "exact": "JSON 完全正确的比例",
        "language": "语言",
        "before": "微调前",
        "after": "微调后",
        "all": "全部",
        "alone": "{model} 独占第一梯队。",
        "not_alone": "{model} 未能独占第一梯队。",
        "parity": "服务与训练一致：{prompts} 条提示的模板、logits、文本均相符"
        "（贪心解码文本 {identical} 条完全相同，logits 最大相差 {max_logit_difference:.4f}）。",
        "no_parity": "服务结果与训练结果不一致",
        "minutes": "用时（分钟）：{steps}；合计 {total:.1f}",
        "reports": "报告：{before}、{after}",
        "console": "控制台，里面就是本次演示的全部内容（链接只能使用一次）：",
        "serving": "服务正在运行，按 Ctrl-C 结束。您可以自己调用：",
        "start": "启动服务后自己调用；控制台可用 curl 命令中的密钥登录：",
    },
}[language()]


class Server(NamedTuple):
    """A `baimo serve` that runs."""

    address: str
    secret: str
    link: str
    """Into the console, once."""
    process: subprocess.Popen[bytes]


class Steps:
    """Says what is done, and remembers how long it took."""

    def __init__(self) -> None:
        self.minutes: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        began = time.monotonic()
        print(f"\n{len(self.minutes) + 1}/5  {SAID[name]}", file=sys.stderr, flush=True)
        yield
        self.minutes[name] = (time.monotonic() - began) / 60


def main() -> None:
    folder = Path(sys.argv[1])
    workspace = folder / "workspace"
    shutil.rmtree(workspace, ignore_errors=True)
    steps, reports = Steps(), (folder / "before.html", folder / "report.html")
    with steps.step("compare"):
        before = told(workspace, "compare", str(TASK), *MATTERS, "--html", str(reports[0]))
    with steps.step("tune"):
        options = ("--prompt", PROMPT, *LEARN, "--suffix", "smart-home", "--yes")
        job = told(workspace, "tune", str(TASK), *options)
    model = str(job["model"])
    tuned = f"{model}@{PROMPT}"
    with steps.step("again"):
        after = told(workspace, "compare", str(TASK), *MATTERS, "--also", tuned, "--html", str(reports[1]))
        (folder / "report.run").write_text(after["run"]["id"])
    with steps.step("whole"):
        first = ("--only", before["winner"]) if before["winner"] else ()
        whole = told(workspace, "compare", str(TASK), *first, "--also", tuned, "--exhaustive", "--quiet")
    with ExitStack() as closing:
        with steps.step("serve"):
            server = closing.enter_context(served(folder, workspace))
            body = asked(model)
            answer = answered(server, body)
        shown(model, after, whole, told(workspace, "adapters", "show", model, json_flag=False)["parity"])
        took = ", ".join(f"{name} {minutes:.1f}" for name, minutes in steps.minutes.items())
        print("\n" + SAID["minutes"].format(steps=took, total=sum(steps.minutes.values())))
        print(SAID["reports"].format(before=reports[0], after=reports[1]))
        print(f"\n{QUESTION}\n→ {answer}")
        invited(workspace, server, body)


def told(workspace: Path, *arguments: str, json_flag: bool = True) -> Any:
    """What a command answers as JSON; its talk goes to the terminal."""
    command = [
        sys.executable,
        "-m",
        "baimo",
        "-w",
        str(workspace),
        *arguments,
        *(["--json"] if json_flag else []),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}: {done.returncode}")
    return json.loads(done.stdout)


@contextmanager
def served(folder: Path, workspace: Path) -> Generator[Server]:
    """The endpoint, as somebody starts it for the first time; on any port where its own is taken."""
    log = folder / "server.log"
    for port in ("8000", "0"):
        with log.open("w") as file:
            command = [sys.executable, "-m", "baimo", "-w", str(workspace), "serve", "--port", port]
            process = subprocess.Popen(command, cwd=ROOT, stderr=file)
        try:
            while process.poll() is None:
                seen = log.read_text()
                link = re.search(r"(https?://[\w.:]+)/console/enter/\S+", seen)
                secret = re.search(r"\bbm-[\w-]+", seen)
                if link and secret:
                    yield Server(link[1], secret[0], link[0], process)
                    return
                time.sleep(0.1)
        finally:
            process.terminate()
            process.wait()
    sys.exit(log.read_text())


def asked(model: str) -> str:
    """The body of a request, as the model was taught to be asked."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    return json.dumps({"model": model, "messages": messages, "temperature": 0})


def answered(server: Server, body: str) -> str:
    head = {"authorization": f"Bearer {server.secret}", "content-type": "application/json"}
    request = urllib.request.Request(f"{server.address}/v1/chat/completions", body.encode(), head)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


def shown(model: str, after: Any, whole: Any, parity: Any) -> None:
    """Before and after by language, the verdict, and whether what serves is what was trained."""
    names = sorted(whole_of(whole), key=lambda name: name.startswith(model))
    by_language = next(one for one in whole["slices"] if one["name"] == "language")
    rows = {
        one["value"]: {name: one["means"][name]["score"] for name in names} for one in by_language["values"]
    }
    print(f"\n{SAID['exact']}\n")
    print(f"{SAID['language']:<10}{SAID['before']:>10}{SAID['after']:>10}")
    for value, scores in {**rows, SAID["all"]: whole_of(whole)}.items():
        print(f"{value:<10}" + "".join(f"{scores[name]:>10.1%}" for name in names))
    print(f"\n{after['headline']}")
    first = [one["candidate"] for one in after["standings"] if one["tier"] == 1]
    print(SAID["alone" if first == [names[-1]] else "not_alone"].format(model=model))
    agreed = all(parity[part] for part in ("template", "logits", "text"))
    print(SAID["parity" if agreed else "no_parity"].format(**parity))


def whole_of(verdict: Any) -> dict[str, float]:
    """Candidate → score."""
    return {one["candidate"]: one["score"] for one in verdict["standings"]}


def invited(workspace: Path, server: Server, body: str) -> None:
    """How to look at it and ask it; with somebody at the terminal the server stays."""
    curl = (
        f"curl {server.address}/v1/chat/completions -H 'Authorization: Bearer {server.secret}' "
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
    if sys.stdin.isatty() and sys.stdout.isatty():
        print(f"\n{SAID['console']}\n{server.link}\n\n{SAID['serving']}\n{curl}", flush=True)
        try:
            server.process.wait()
        except KeyboardInterrupt:
            return
    port = server.address.rpartition(":")[2]
    baimo = os.path.relpath(Path(sys.executable).with_name("baimo"))
    print(
        f"\n{SAID['start']}\n{baimo} -w {shlex.quote(str(workspace))} serve --port {port}\n{curl}", flush=True
    )


if __name__ == "__main__":
    main()
