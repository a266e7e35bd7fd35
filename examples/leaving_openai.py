"""Everything that OpenAI's fine-tuning did, on your own machine, with OpenAI's own library and not a changed line.

baimo serve                                       # prints an address and a key
export OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=bm-…
python examples/leaving_openai.py [MODEL]

Uploads tickets of a repair shop, tunes a small model on them, follows the job, asks the tuned model, has its answers
graded and evaluated, and clears up.
"""

from __future__ import annotations

import base64
import json
import sys
import time

from openai import OpenAI

BASE = sys.argv[1] if len(sys.argv) > 1 else "local/smollm2-135m-instruct"
SYSTEM = "Say which desk the ticket goes to: billing, delivery, repair or sales."
TICKETS = {
    "billing": (
        "I was charged twice.",
        "My invoice shows the wrong amount.",
        "Please refund the last payment.",
        "Why is the bill higher this month?",
        "The invoice has my old address.",
        "My card was charged although I cancelled.",
        "I need a copy of the receipt.",
        "The discount is missing on my invoice.",
    ),
    "delivery": (
        "My parcel has not arrived.",
        "The package was left in the rain.",
        "Where is my shipment?",
        "The courier came while I was away.",
        "Can you ship to another address?",
        "The tracking number does not work.",
        "My order was delivered to the neighbour.",
        "When will the parcel be here?",
    ),
    "repair": (
        "The screen is cracked.",
        "My kettle does not heat any more.",
        "The drill makes a grinding noise.",
        "The battery is empty after an hour.",
        "Water leaks out of the machine.",
        "The fan has stopped turning.",
        "The lamp flickers and then goes out.",
        "The zip of the bag is broken.",
    ),
    "sales": (
        "Do you have this chair in green?",
        "Which model would you recommend?",
        "Is there a discount for ten pieces?",
        "Can I try the bike before I buy it?",
        "What is the price of the large one?",
        "When will the new version be on offer?",
        "Does the printer work with my laptop?",
        "I would like a quote for fifty mugs.",
    ),
}
UNSEEN = {
    "You have charged me two times for one order.": "billing",
    "The parcel was due on Monday and is not here.": "delivery",
    "The screen of my phone has a crack.": "repair",
    "What is the price of the green chair?": "sales",
}


def lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def asked(ticket: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ticket}]


def example(ticket: str, desk: str) -> dict[str, object]:
    return {"messages": [*asked(ticket), {"role": "assistant", "content": desk}]}


client = OpenAI()

# upload
train = [example(ticket, desk) for desk, tickets in TICKETS.items() for ticket in tickets]
train_file = client.files.create(file=("tickets.jsonl", lines(train)), purpose="fine-tune")
valid = [example(ticket, desk) for ticket, desk in UNSEEN.items()]
valid_file = client.files.create(file=("unseen.jsonl", lines(valid)), purpose="fine-tune")

# tune
job = client.fine_tuning.jobs.create(
    model=BASE,
    training_file=train_file.id,
    validation_file=valid_file.id,
    suffix="desk",
    seed=1,
    method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 8}}},
    metadata={"project": "leaving"},
)
print(f"{job.id}: {job.status}")
seen: set[str] = set()
while True:
    job = client.fine_tuning.jobs.retrieve(job.id)
    for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=100).data):
        if event.id not in seen:
            seen.add(event.id)
            print(f"  {event.message}")
    if job.status in ("succeeded", "failed", "cancelled"):
        break
    time.sleep(1)
if job.status != "succeeded" or job.fine_tuned_model is None:
    sys.exit(f"{job.status}: {job.error}")
print(f"{job.status}: {job.fine_tuned_model}, {job.trained_tokens} tokens")

# what it has left
for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id):
    print(f"  after step {checkpoint.step_number}: {checkpoint.metrics.full_valid_loss}")
table = base64.b64decode(client.files.content(job.result_files[0]).read()).decode()
print(table.splitlines()[-1])

# ask
right = 0
for ticket, desk in UNSEEN.items():
    answer = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=asked(ticket),  # type: ignore[arg-type]
        temperature=0,
        max_tokens=8,
    )
    said = (answer.choices[0].message.content or "").strip()
    right += said == desk
    print(f"  {ticket} → {said}")
print(f"{right} of {len(UNSEEN)} unseen tickets at the right desk")

# grade one answer
same = {
    "type": "string_check",
    "name": "same desk",
    "input": "{{sample.output_text}}",
    "reference": "{{item.desk}}",
    "operation": "eq",
}
graded = client.fine_tuning.alpha.graders.run(grader=same, model_sample="repair", item={"desk": "repair"})  # type: ignore[arg-type]
print(f"graded: {graded.reward}")

# evaluate the model
evaluation = client.evals.create(
    name="desks",
    data_source_config={
        "type": "custom",
        "item_schema": {
            "type": "object",
            "properties": {"ticket": {"type": "string"}, "desk": {"type": "string"}},
            "required": ["ticket", "desk"],
        },
        "include_sample_schema": True,
    },
    testing_criteria=[same],  # type: ignore[list-item]
)
run = client.evals.runs.create(
    evaluation.id,
    name="tuned",
    data_source={  # type: ignore[arg-type]
        "type": "completions",
        "model": job.fine_tuned_model,
        "input_messages": {
            "type": "template",
            "template": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": "{{item.ticket}}"},
            ],
        },
        "sampling_params": {"temperature": 0, "max_completion_tokens": 8},
        "source": {
            "type": "file_content",
            "content": [{"item": {"ticket": ticket, "desk": desk}} for ticket, desk in UNSEEN.items()],
        },
    },
)
while run.status in ("queued", "in_progress"):
    time.sleep(0.5)
    run = client.evals.runs.retrieve(run.id, eval_id=evaluation.id)
print(f"evaluated: {run.status}, {run.result_counts.passed} of {run.result_counts.total} passed")

# clear up
client.evals.delete(evaluation.id)
for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id):
    client.models.delete(checkpoint.fine_tuned_model_checkpoint)
client.models.delete(job.fine_tuned_model)
for file in (train_file.id, valid_file.id, *job.result_files):
    client.files.delete(file)
print("deleted")
