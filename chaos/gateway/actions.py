"""What each action does to a request: one function an action."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from chaos.gateway.answers import garbage, made_up
from chaos.gateway.errors import ClientGone, TooLargeToHold, UpstreamLost
from chaos.gateway.exchange import Exchange
from chaos.gateway.held import HeldRequest
from chaos.gateway.messages import Answer
from chaos.gateway.pace import Pacer
from chaos.gateway.rulebook import ActiveRule
from chaos.gateway.rules import (
    Applied,
    Cut,
    Delay,
    Drop,
    Garbage,
    Hold,
    R2Limits,
    Real,
    Refuse,
    Stale,
    Status,
    Throttle,
    Told,
    Truncated,
    Zombie,
)  # fmt: skip


async def handle(exchange: Exchange) -> None:
    """Carry out the rules that chose this request; what combines comes first, in the order in which it was put."""
    main = next((rule for rule in exchange.rules if not rule.combines), None)
    for rule in exchange.rules:
        if rule.combines and await _combine(exchange, rule):
            if main is not None:
                main.gave_back()
            return
    if main is None:
        await exchange.relay()
    else:
        await _ACTIONS[type(main.action)](exchange, main, main.action)


async def _combine(exchange: Exchange, rule: ActiveRule) -> bool:
    """Carry out an action that combines with others; return whether the request is answered by it."""
    action = rule.action
    if isinstance(action, R2Limits):
        refusal = exchange.gateway.r2.check(rule, action, exchange.request)
        if refusal is None:
            rule.passed += 1
            return False
        rule.took_effect()
        await _answer_made_up(exchange, refusal)
        return True
    rule.took_effect()
    if isinstance(action, Delay):
        jitter_s = rule.random("jitter").uniform(-1, 1) * action.jitter_s
        await exchange.wait(max(0.0, action.seconds + jitter_s), rule)
    elif isinstance(action, Throttle):
        _throttle(exchange, rule, action)
    return False


def _throttle(exchange: Exchange, rule: ActiveRule, action: Throttle) -> None:
    pacer = Pacer(action.bytes_per_s, lambda seconds: exchange.wait(seconds, rule))
    if action.direction != "answer":
        exchange.request_pacer = pacer
    if action.direction != "request":
        exchange.answer_pacer = pacer


async def _refuse(exchange: Exchange, rule: ActiveRule, action: Refuse) -> None:
    rule.took_effect()
    await exchange.wait(action.hold_s, rule)
    await _answer_unforwarded(exchange, rule, action.answer)


async def _hold(exchange: Exchange, rule: ActiveRule, action: Hold) -> None:
    rule.took_effect()
    exchange.outcome = "held"
    over = await exchange.wait(action.seconds, rule)
    if not over and rule.rule.on_delete == "drop":
        await _answer_unforwarded(exchange, rule, Drop())
    elif over and action.then is not None:
        await _answer_unforwarded(exchange, rule, action.then)
    else:
        await exchange.relay()


async def _applied(exchange: Exchange, rule: ActiveRule, action: Applied) -> None:
    answer = await _apply(exchange, rule, action)
    if answer is None:
        return
    rule.took_effect()
    twice = action.times == 2
    exchange.outcome = "twice" if twice else "held" if action.hold_s else "passed"
    if action.hold_s and not await exchange.wait(action.hold_s, rule) and rule.rule.on_delete == "drop":
        await _drop(exchange, Drop())
        return
    await _answer_applied(exchange, rule, action.then, answer)


async def _apply(exchange: Exchange, rule: ActiveRule, action: Applied) -> Answer | None:
    """Forward the request, once or twice, to the end of the upstream's work; None: it passed through unapplied."""
    content: bytes | None = None
    if action.times == 2:
        try:
            content = await exchange.hold_body()
        except TooLargeToHold:
            rule.gave_back()
            await exchange.relay()
            return None
    answer = await exchange.forward(content)
    if not answer.applied:
        rule.gave_back()
        await exchange.tell(answer)
        return None
    if content is None:
        return answer
    status, again = await exchange.route.fetch(exchange.request, content)
    if action.keep == "first":
        return answer
    await answer.body.discard()
    exchange.upstream_status = status
    return again


async def _zombie(exchange: Exchange, rule: ActiveRule, action: Zombie) -> None:
    try:
        content = await exchange.hold_body()
    except TooLargeToHold:
        rule.gave_back()
        await exchange.relay()
        return
    rule.took_effect()
    exchange.outcome = "zombie"
    exchange.gateway.hold(HeldRequest(exchange, content, rule, action))
    await _answer_unforwarded(exchange, rule, action.answer)


async def _stale(exchange: Exchange, rule: ActiveRule, action: Stale) -> None:
    stale, path = exchange.gateway.stale, exchange.request.path
    earlier = stale.answer(rule, path)
    if earlier is not None:
        rule.took_effect()
        exchange.outcome = "stale"
        await exchange.reply(earlier)
        return
    rule.gave_back()
    if action.since == "rule" and exchange.request.verb == "GET" and stale.wants(rule, path):
        answer = await exchange.forward()
        content = await answer.body.read_all()
        if answer.status == 200:
            stale.remember(rule, path, content, answer.headers)
        await exchange.tell(Answer.of(answer.status, content, answer.headers))
    else:
        await exchange.relay()


async def _cut(exchange: Exchange, rule: ActiveRule, action: Cut) -> None:
    if action.direction == "answer":
        rule.took_effect()
        exchange.outcome = "truncated"
        await exchange.tell(await exchange.forward(), keep_bytes=action.after_bytes)
        return
    exchange.cut_request_after = action.after_bytes
    exchange.client.on_gone = exchange.abort_upstream
    try:
        answer: Answer | None = await exchange.forward()
    except UpstreamLost:
        answer = None
    if exchange.request_was_cut:
        rule.took_effect()
        exchange.outcome = "truncated"
        exchange.client.abort()
    elif answer is None:
        raise UpstreamLost
    else:
        rule.gave_back()
        await exchange.tell(answer)


async def _answer_unforwarded(exchange: Exchange, rule: ActiveRule, told: Told) -> None:
    if exchange.outcome == "passed":
        exchange.outcome = "refused"
    if isinstance(told, Drop):
        await _drop(exchange, told)
    elif isinstance(told, Garbage):
        await exchange.reply(garbage(told, rule.random("noise")))
    elif isinstance(told, Status):
        await _answer_made_up(exchange, told)


async def _answer_made_up(exchange: Exchange, told: Status) -> None:
    if exchange.outcome == "passed":
        exchange.outcome = "refused"
    await exchange.reply(made_up(told, protocol=exchange.route.protocol, path=exchange.request.path))


async def _answer_applied(exchange: Exchange, rule: ActiveRule, told: Told, answer: Answer) -> None:
    if isinstance(told, Real):
        await exchange.tell(answer)
        return
    if isinstance(told, Truncated):
        exchange.outcome = "truncated"
        await _truncate(exchange, told, answer)
        return
    await answer.body.discard()
    if isinstance(told, Drop):
        exchange.outcome = "answer-dropped"
        await _drop(exchange, told)
        return
    exchange.outcome = "answer-replaced"
    made = garbage(told, rule.random("noise")) if isinstance(told, Garbage) else None
    if isinstance(told, Status):
        made = made_up(told, protocol=exchange.route.protocol, path=exchange.request.path)
    assert made is not None
    await exchange.reply(made)


async def _truncate(exchange: Exchange, told: Truncated, answer: Answer) -> None:
    if answer.bodyless or answer.length == 0:
        head = answer.head(close=False, chunked=False)
        exchange.client.write(head[: len(head) // 2])
        exchange.client.close()
        return
    keep_bytes = told.keep_bytes
    if answer.length is not None:
        keep_bytes = min(keep_bytes, answer.length - 1)
    await exchange.tell(answer, keep_bytes=keep_bytes)


async def _drop(exchange: Exchange, told: Drop) -> None:
    if exchange.client.is_gone:
        raise ClientGone
    if told.how == "reset":
        exchange.client.abort()
    else:
        exchange.client.close()


_ACTIONS: dict[type, Callable[[Exchange, ActiveRule, Any], Awaitable[None]]] = {
    Refuse: _refuse,
    Hold: _hold,
    Applied: _applied,
    Zombie: _zombie,
    Stale: _stale,
    Cut: _cut,
}
