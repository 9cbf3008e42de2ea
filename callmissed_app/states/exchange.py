"""A question and its answer, as the screen shows them and as the next call repeats them."""

from collections.abc import Iterable
from dataclasses import dataclass

from callmissed_app.states.chat_call import Answer, Cost
from callmissed_app.states.figures import count, duration, rupees

_NOTES = {
    "length": "Cut at max tokens.",
    "content_filter": "Cut by the vendor's content filter.",
    "tool_calls": "The model asked for a tool; the playground has none.",
}


@dataclass
class Exchange:
    """A question, its answer, how it ended and what it cost."""

    question: str
    answer: str
    thinking: str
    model: str
    generation: str
    """What its receipt is found by; "" when there is none."""
    problem: str
    advice: str
    note: str
    used: str
    cost: str
    time: str


def exchange(question: str, model: str, answer: Answer, cost: Cost | None, note: str) -> Exchange:
    """What is kept of a call that has ended; `note` says who ended it early."""
    first = f"first word after {duration(answer.first_ms)}, " if answer.first_ms else ""
    charged = cost is not None and cost.charged > 0
    return Exchange(
        question=question,
        answer=answer.text,
        thinking=answer.thinking,
        model=model,
        generation=answer.generation if cost else "",
        problem=answer.problem,
        advice=answer.advice,
        note=note or _NOTES.get(answer.finish, ""),
        used=f"{count(cost.tokens_in)} tokens in, {count(cost.tokens_out)} out" if charged else "",
        cost=rupees(cost.charged) if charged else "Not charged",
        time=f"{first}{duration(answer.total_ms)} in all",
    )


def messages(before: Iterable[Exchange], question: str) -> list[dict[str, str]]:
    """What was said so far and the next question; exchanges without an answer are left out."""
    said = [
        message
        for past in before
        if past.answer
        for message in (
            {"role": "user", "content": past.question},
            {"role": "assistant", "content": past.answer},
        )
    ]
    return [*said, {"role": "user", "content": question}]
