"""`lrax.compat` of the trainers against transcriptions of their formulas, one update at a time, in
float64.

Read for this, at the commits of the stored copies:
- deepspeed: the release 0.19.8, deepspeed/runtime/lr_schedules.py
- megatron: NVIDIA/Megatron-LM d98e8a64, megatron/core/optimizer_param_scheduler.py
- nemo: NVIDIA/NeMo 8cfedd72, nemo/core/optim/lr_scheduler.py
- maxtext: AI-Hypercomputer/maxtext e591f30c, src/maxtext/utils/maxtext_utils.py; before pull
  request 2883, c491caa0, src/MaxText/maxtext_utils.py; in between, by the figures in pull request
  3095
- big_vision: google-research/big_vision 0127fb6b, big_vision/utils.py
- t5x: google-research/t5x cc342d41, t5x/utils.py
- levanter: marin-community/marin 0f45aa1c, lib/levanter/src/levanter/optim/config.py
- composer: mosaicml/composer 0f1df8bb, composer/optim/scheduler.py
"""

import itertools
import math

import compat_laws
import numpy as np
import pytest

import lrax
from lrax.compat import big_vision, composer, deepspeed, levanter, maxtext, megatron, nemo, t5x

CASES = []


def case(build, rate, length=100, known=(), /, **keywords):
    """Declares the formula of a setting: the rate of the update `t`."""
    name = f"{build.__module__.split('.')[2]}.{build.__name__}"
    words = ", ".join(f"{key}={value}" for key, value in keywords.items())
    return lambda formula: CASES.append(
        pytest.param(build, rate, length, known, keywords, formula, id=f"{name}({words})")
    )


def half_wave(p):
    return (1 + math.cos(math.pi * p)) / 2


# DeepSpeed. The constructor sets the rate of the step -1; `t - 1` is its `last_batch_iteration`.
def deepspeed_gamma(step, warmup, kind):
    return math.log(step + 1) / math.log(warmup) if kind == "log" else step / warmup


def deepspeed_case(kind, warmup, total):
    low, high = 0.1, 1.0
    length = max(2, warmup)

    def constant(t):
        gamma = 1.0 if t - 1 >= length else deepspeed_gamma(t - 1, length, kind) if t else 0.0
        return low + (high - low) * gamma

    def decay(t):
        step = t - 1
        if t == 0 or step < length:
            return constant(t)
        return low + (high - low) * max(0.0, (total - step) / max(1.0, total - length))

    def cosine(t):
        step = t - 1
        if t == 0:
            return 0.0
        if step < length:
            return 0.2 + 0.8 * deepspeed_gamma(step, length, kind)
        return 0.1 + 0.9 * half_wave(min(1.0, (step - length + 1) / max(1, total - length)))

    shared = {"warmup_min_lr": low, "warmup_num_steps": warmup, "warmup_type": kind}
    case(deepspeed.WarmupLR, "lr", lr=high, **shared)(constant)
    case(
        deepspeed.WarmupDecayLR, "lr", lr=high, warmup_max_lr=None, total_num_steps=total, **shared
    )(decay)
    settings = {"total_num_steps": total, "warmup_max_lr": high, **shared}
    case(deepspeed.WarmupDecayLR, "warmup_max_lr", **settings)(decay)
    ratios = {"warmup_min_ratio": 0.2, "cos_min_ratio": 0.1}
    settings = {"total_num_steps": total, "warmup_num_steps": warmup, "warmup_type": kind, **ratios}
    case(deepspeed.WarmupCosineLR, "lr", lr=high, **settings)(cosine)


for kind in ("log", "linear"):
    deepspeed_case(kind, 10, 100)
    deepspeed_case(kind, 0, 50)
deepspeed_case("linear", 30, 20)


def one_cycle_case(first, second, stairs, second_stairs, decay_rate, decay_steps):
    def formula(t):
        total = first + second
        if t - 1 >= total:
            skipped = decay_steps == 0 or decay_rate == 0
            return 0.1 if skipped else 0.1 / (1 + decay_rate * (t - total) / decay_steps)
        into = t % total
        scale = into / first if into <= first else (total - into) / second
        count = stairs if into <= first else second_stairs
        if count:
            position = into * count / first if into <= first else (total - into) * count / second
            scale = math.floor(position) / count
        return 0.1 + 0.9 * scale

    case(
        deepspeed.OneCycle,
        "cycle_max_lr",
        100,
        ("cycle_first_stair_count",),
        cycle_min_lr=0.1,
        cycle_max_lr=1.0,
        cycle_first_step_size=first,
        cycle_second_step_size=second,
        cycle_first_stair_count=stairs,
        cycle_second_stair_count=second_stairs,
        decay_lr_rate=decay_rate,
        decay_step_size=decay_steps,
    )(formula)


one_cycle_case(20, 30, 0, 0, 0.5, 5)
one_cycle_case(20, 30, 0, 0, 0.5, 0)
one_cycle_case(7, 13, 3, 4, 0.5, 5)
one_cycle_case(20, 20, 4, 0, 0.0, 5)
for stairs in (False, True):
    case(
        deepspeed.LRRangeTest,
        "lr_range_test_min_lr",
        lr_range_test_min_lr=0.1,
        lr_range_test_step_size=7,
        lr_range_test_step_rate=0.5,
        lr_range_test_staircase=stairs,
    )(lambda t, stairs=stairs: 0.1 * (1 + 0.5 * (t // 7 if stairs else t / 7)))


# Megatron-LM
def megatron_case(style, warmup=10, wsd_style="exponential", init=0.0):
    low, high, total, last = 0.1, 1.0, 100, 20

    def formula(t):
        if warmup > 0 and t <= warmup:
            return init + (high - init) * t / warmup
        if style == "constant":
            return high
        if t > total:
            return low
        if style == "inverse-square-root":
            return max(low, high * max(warmup, 1) ** 0.5 / max(t, 1) ** 0.5)
        p = (t - warmup) / (total - warmup)
        if style == "linear":
            weight = 1 - p
        elif style == "cosine":
            weight = half_wave(p)
        elif t <= total - last:
            weight = 1
        else:
            p = (t - total + last) / last
            shapes = {
                "linear": 1 - p,
                "cosine": half_wave(p),
                "exponential": 2 * 0.5**p - 1,
                "minus_sqrt": 1 - p**0.5,
            }
            weight = shapes[wsd_style]
        return low + weight * (high - low)

    keywords = {"wsd_decay_steps": last, "lr_wsd_decay_style": wsd_style} if style == "WSD" else {}
    case(
        megatron.OptimizerParamScheduler,
        "max_lr",
        init_lr=init,
        max_lr=high,
        min_lr=low,
        lr_warmup_steps=warmup,
        lr_decay_steps=total,
        lr_decay_style=style,
        **keywords,
    )(formula)


for style in ("constant", "linear", "cosine", "inverse-square-root"):
    megatron_case(style)
    megatron_case(style, warmup=0)
    megatron_case(style, init=0.05)
for style in ("linear", "cosine", "exponential", "minus_sqrt"):
    megatron_case("WSD", wsd_style=style)


def wd_case(style):
    def formula(t):
        if t > 40:
            return 0.1
        return 0.01 + 0.09 * (t / 40 if style == "linear" else half_wave(1 - t / 40))

    keywords = {"start_wd": 0.01, "end_wd": 0.1, "wd_incr_steps": 40, "wd_incr_style": style}
    case(megatron.weight_decay, "start_wd", **keywords)(formula)


wd_case("linear")
wd_case("cosine")


# NeMo. PyTorch calls it first with the step 0.
def nemo_case(build, decay, peak=1.0, low=0.1, last=100, warmup=10, hold=None, **keywords):
    """A policy: `decay(t, warmup, hold)` after the warmup, with NeMo's `hold_steps`, which include the warmup."""
    held = 0 if hold is None else hold + warmup

    def formula(t):
        if t <= warmup and warmup > 0:
            return peak * (t + 1) / (warmup + 1)
        if warmup <= t < held:
            return peak
        return low if t > last else decay(t, warmup, held)

    durations = {"max_steps": last, "warmup_steps": warmup} | (
        {} if hold is None else {"hold_steps": hold}
    )
    case(build, "lr", lr=peak, min_lr=low, **durations, **keywords)(formula)


def teeth(step, steps, power, cycle):
    if cycle:
        steps = steps * (1 if step == 0 else math.ceil(step / steps))
    else:
        step = min(step, steps)
    return 0.9 * (1 - step / steps) ** power + 0.1


for warmup in (10, 0):
    nemo_case(nemo.WarmupPolicy, lambda t, w, h: 1.0, warmup=warmup)
    nemo_case(
        nemo.SquareAnnealing, lambda t, w, h: max(0.1, ((100 - t) / (100 - w)) ** 2), warmup=warmup
    )
    nemo_case(
        nemo.SquareRootAnnealing, lambda t, w, h: max(0.1, ((100 - t) / 100) ** 0.5), warmup=warmup
    )
    nemo_case(
        nemo.CosineAnnealing,
        lambda t, w, h: 0.1 + 0.9 * half_wave((t - w) / (100 - w)),
        warmup=warmup,
    )
    nemo_case(
        nemo.WarmupAnnealing, lambda t, w, h: 0.1 + 0.9 * (1 - (t - w) / (100 - w)), warmup=warmup
    )
    nemo_case(
        nemo.InverseSquareRootAnnealing, lambda t, w, h: ((t + 1) / (w + 1)) ** -0.5, warmup=warmup
    )
    for cycle in (False, True):
        nemo_case(
            nemo.PolynomialDecayAnnealing,
            lambda t, w, h, cycle=cycle: teeth(t - w, 100 - w, 2.0, cycle),
            warmup=warmup,
            power=2.0,
            cycle=cycle,
        )
for hold in (None, 0, 20):
    nemo_case(nemo.WarmupHoldPolicy, lambda t, w, h: 1.0, hold=hold)
    nemo_case(
        nemo.WarmupHoldAnnealOneMinusSquareRoot,
        lambda t, w, h: max(0.1, 1 - ((t - h) / (100 - h)) ** 0.5),
        hold=hold,
    )
    nemo_case(nemo.WarmupHoldAnnealLinear, lambda t, w, h: 1 - 0.9 * (t - h) / (100 - h), hold=hold)
    for rate in (0.5, 1.0):
        nemo_case(
            nemo.NoamHoldAnnealing,
            lambda t, w, h, rate=rate: max(
                0.1, max(1, w**rate) / max(1, (t - (h - w if h > 0 else 0)) ** rate)
            ),
            hold=hold,
            decay_rate=rate,
        )
    for cycle in (False, True):
        nemo_case(
            nemo.PolynomialHoldDecayAnnealing,
            lambda t, w, h, cycle=cycle: teeth(t - h, 100 - max(w, h), 2.0, cycle),
            hold=hold,
            power=2.0,
            cycle=cycle,
        )


@case(
    nemo.CosineAnnealing,
    "lr",
    lr=1.0,
    max_steps=100,
    warmup_steps=10,
    constant_steps=10,
    min_lr=0.1,
)
def nemo_cosine_of_megatron(t):
    if t <= 10:
        return t / 10
    return 0.1 if t > 90 else 0.1 + 0.9 * half_wave((t - 10) / 80)


def noam_case(warmup, low):
    def formula(t):
        step = max(1, t)
        mult = min(step**-0.5, step * warmup**-1.5) if warmup else step**-0.5
        return max(2.0 * mult / 8, low) if step > warmup else 2.0 * mult / 8

    case(nemo.NoamAnnealing, "lr", lr=2.0, d_model=64, warmup_steps=warmup, min_lr=low)(formula)


noam_case(10, 0.0)
noam_case(10, 0.05)
noam_case(0, 0.05)


@case(nemo.T5InverseSquareRootAnnealing, "min_lr", max_steps=80, constant_steps=10, min_lr=0.01)
def nemo_t5(t):
    return 10**-0.5 if t <= 10 else 0.01 if t > 80 else t**-0.5


# MaxText
def maxtext_case(kind, version="current", style="linear", total=100, up=0.1, down=0.2, steps=120):
    def climb(t, warmup):
        length = warmup - 1 if version == "closed_warmup" else warmup
        return t / length if length > 0 else 0.0

    def wave(u, length):
        p = u / length if version == "open_decay" else u / (length - 1) if length > 1 else 1.0
        return 0.1 + 0.9 * half_wave(p)

    def formula(t):
        warmup, decay = int(total * up), int(total * down)
        if t < warmup:
            return climb(t, warmup)
        if t >= total and steps > total:
            return 0.0
        if kind == "cosine":
            return wave(t - warmup, total - warmup)
        if t < total - decay:
            return 1.0
        u = t - total + decay
        if style == "cosine":
            return wave(u, decay)
        return 1 - 0.9 * min(u, decay - 1) / (decay - 1) if decay > 1 else 1.0

    case(
        maxtext.create_learning_rate_schedule,
        "learning_rate",
        100,
        ("steps",) if steps < 0 else (),
        learning_rate=1.0,
        steps=steps,
        learning_rate_schedule_steps=total,
        warmup_steps_fraction=up,
        wsd_decay_steps_fraction=down,
        lr_schedule_type=kind,
        wsd_decay_style=style,
        version=version,
    )(formula)


for version in ("current", "closed_warmup", "open_decay"):
    maxtext_case("cosine", version)
    maxtext_case("cosine", version, steps=100)
    maxtext_case("cosine", version, steps=-1)
for style in ("linear", "cosine"):
    maxtext_case("wsd", style=style)
    maxtext_case("wsd", "closed_warmup", style=style, up=0.01, down=0.01)
    maxtext_case("wsd", style=style, up=0.0, steps=-1)


# big_vision
def big_vision_case(decay_type, warmup=10, cooldown=None, **keywords):
    def formula(t):
        begin = warmup or 0
        p = min(max((t - begin) / (100 - begin), 0), 1)
        if decay_type == "linear":
            rate = keywords.get("end", 0) + (2.0 - keywords.get("end", 0)) * (
                1 - p
            ) ** keywords.get("power", 1)
        elif decay_type == "cosine":
            rate = 2.0 * half_wave(p)
        elif decay_type == "rsqrt":
            scale, by = keywords.get("timescale", 10_000), keywords.get("shift", 0)
            rate = 2.0 / math.sqrt(1 + (max(t - begin, 0) + by) / scale)
        else:
            i = np.searchsorted(keywords["steps"], t + 1)
            rate = 2.0 * [1.0, *keywords["mults"]][i]
        rate *= min(1.0, t / warmup) if warmup else 1
        return rate * (min(1.0, (100 - t) / cooldown) if cooldown else 1)

    durations = {"warmup_steps": warmup, "cooldown_steps": cooldown}
    durations = {name: value for name, value in durations.items() if value is not None}
    build = big_vision.create_learning_rate_schedule
    case(build, "base", total_steps=100, base=2.0, decay_type=decay_type, **durations, **keywords)(
        formula
    )


for warmup, cooldown in ((10, None), (None, None), (0, 20), (10, 20)):
    big_vision_case("linear", warmup, cooldown, end=0.1, power=2.0)
    big_vision_case("linear", warmup, cooldown)
    big_vision_case("cosine", warmup, cooldown)
    big_vision_case("rsqrt", warmup, cooldown, timescale=50.0, shift=20.0)
    big_vision_case("stair", warmup, cooldown, steps=[30, 60], mults=[0.5, 0.1])


# t5x
def t5x_case(factors, offset=0, factor=0.5):
    def formula(t):
        step, product = max(0, t - offset), 1.0
        for name in factors.split(" * "):
            if name == "constant":
                product *= 1.5
            elif name == "linear_warmup":
                product *= min(1.0, step / 10)
            elif name == "linear_decay":
                product *= 1.5 * min(step / 10, 1 + factor * (10 - step))
            elif name == "rsqrt_decay":
                product /= math.sqrt(max(step, 10))
            elif name == "rsqrt_normalized_decay":
                product *= math.sqrt(10) / math.sqrt(max(step, 10))
            elif name == "decay_every":
                product *= factor ** (step // 20)
            else:
                product *= max(0.0, half_wave(max(0.0, (step - 10) / 30) % 1))
        return max(product, 1e-3)

    case(
        t5x.create_learning_rate_scheduler,
        "base_learning_rate",
        factors=factors,
        base_learning_rate=1.5,
        warmup_steps=10,
        decay_factor=factor,
        steps_per_decay=20,
        steps_per_cycle=30,
        step_offset=offset,
        min_learning_rate=1e-3,
    )(formula)


for offset in (0, 15, -15):
    t5x_case("constant * linear_warmup * rsqrt_decay", offset)
    t5x_case("constant * linear_warmup * rsqrt_normalized_decay", offset)
    t5x_case("constant * linear_warmup * cosine_decay", offset)
    t5x_case("constant * decay_every", offset)
    t5x_case("linear_decay", offset, factor=0.02)
t5x_case("linear_decay", factor=0.0)


# Levanter
def levanter_rate(t, total, points, kind, warmup, rewarmup, decay, cooldown, ratio, power):
    peak, low = 1.0, ratio
    before, segments = 0.0, []
    for i, (start, end) in enumerate(itertools.pairwise(points)):
        up = rewarmup if i else warmup
        up = min(int(up * (end - start)) if up <= 1 else int(up), end - start)
        down = end - start - up
        if decay is not None:
            down = min(int(decay * (end - start)) if decay <= 1 else int(decay), down)

        def curve(u, up=up, down=down):
            if kind == "constant" or not down:
                return peak
            if kind == "linear":
                return peak + (low - peak) * min(u / down, 1)
            if kind == "polynomial":
                return low + (peak - low) * (1 - min(u / down, 1)) ** 3
            if kind == "inv_sqrt_decay":
                return max(low, peak / math.sqrt(1 + 20 * u / down))
            if kind == "cosine":
                return peak * ((1 - ratio) * half_wave(min(u, down) / down) ** power + ratio)
            if kind == "inv_sqrt":
                return max(peak * min(1.0, (max(u + up, 1) / 30) ** -0.5), low)
            if kind == "power":
                return min(peak, 4 * 4.6 * (u * 4 * 16) ** -0.51) if u else peak
            return max(peak * min(1.0, 1 / ((peak / low - 1) * max(u, 1) / down + 1)), low)

        if up:
            segments.append(
                (start, lambda u, before=before, up=up: before + (peak - before) * u / up)
            )
        if end - start - up - down:
            segments.append((start + up, lambda u: peak))
        segments.append((end - down, curve))
        before = curve(down)
    if cooldown:
        segments.append(
            (total, lambda u, before=before: before + (low - before) * min(u / cooldown, 1))
        )
    begin, curve = [segment for segment in segments if segment[0] <= t][-1]
    return curve(t - begin)


def levanter_case(
    kind, points=(0, 100), warmup=0.1, rewarmup=0.0, decay=None, cooldown=0, power=1.0, **keywords
):
    arguments = (points[-1], list(points), kind, warmup, rewarmup, decay, cooldown, 0.1, power)
    more = {"batch_size": 4, "seq_length": 16} if kind == "power" else {}
    more |= {} if decay is None else {"decay": decay}
    more |= {"cooldown": cooldown} if cooldown else {}
    more |= {"exponent": power} if power != 1 else {}
    more |= {"timescale": 30} if kind == "inv_sqrt" else {}
    more |= {"power": 3.0} if kind == "polynomial" else {}
    more |= {"decay_constant": 20.0} if kind == "inv_sqrt_decay" else {}
    cycles = len(points) > 2
    case(
        levanter.lr_scheduler,
        "learning_rate",
        100,
        ("num_train_steps", "cycles", "cycle_length") if cycles else (),
        num_train_steps=points[-1] + cooldown,
        learning_rate=1.0,
        warmup=warmup,
        rewarmup=rewarmup,
        lr_schedule=kind,
        **more,
        **keywords,
    )(lambda t: levanter_rate(t, *arguments))


LEVANTER = [
    "constant",
    "cosine",
    "linear",
    "inv_sqrt",
    "inv",
    "polynomial",
    "inv_sqrt_decay",
    "power",
]
for kind in LEVANTER:
    levanter_case(kind)
    levanter_case(kind, decay=0.0)  # no decay at all
    levanter_case(kind, decay=95, warmup=20)  # cut to what the warmup leaves
    levanter_case(kind, (0, 30, 100), cycles=[30], warmup=50, rewarmup=0.2)  # cut to its cycle
    levanter_case(kind, decay=0.2)
    levanter_case(kind, decay=20, warmup=0.0)
    levanter_case(kind, (0, 30, 100), cycles=[30], rewarmup=0.1)
    levanter_case(kind, (0, 25, 50, 75, 100), cycles=4, rewarmup=0.2, decay=0.5, warmup=5)
    levanter_case(kind, (0, 80), cooldown=20)
levanter_case("cosine", power=2.0)
levanter_case("linear", (0, 30, 60, 100), cycle_length=30)
levanter_case("linear", (0, 30, 60, 100), cycle_length=[30, 30])


# Composer; the factor times the optimizer's rate, 2
def composer_case(build, formula, **keywords):
    case(build, "lr", lr=2.0, **keywords)(lambda t: 2.0 * formula(t))


def composer_restarts(t, length, mult):
    begin = 0
    while begin + length <= t:
        begin, length = begin + length, int(mult * length)
    return 0.1 + 0.9 * half_wave((t - begin) / length)


composer_case(composer.StepScheduler, lambda t: 0.5 ** (t // 30), step_size=30, gamma=0.5)
composer_case(
    composer.MultiStepScheduler,
    lambda t: 0.5 ** ((t >= 60) + (t >= 30)),
    milestones=[60, 30],
    gamma=0.5,
)
composer_case(composer.ConstantScheduler, lambda t: 0.5 if t < 7 else 1.0, alpha=0.5, t_max=7)
composer_case(
    composer.LinearScheduler,
    lambda t: 0.5 - 0.4 * min(1, t / 80),
    alpha_i=0.5,
    alpha_f=0.1,
    t_max=80,
)
composer_case(composer.ExponentialScheduler, lambda t: 0.9 ** (t / 7), gamma=0.9, decay_period=7)
composer_case(
    composer.CosineAnnealingScheduler,
    lambda t: 0.1 + 0.9 * half_wave(min(1, t / 80)),
    t_max=80,
    alpha_f=0.1,
)
composer_case(
    composer.PolynomialScheduler,
    lambda t: 0.1 + 0.9 * (1 - min(1, t / 80)) ** 2.5,
    power=2.5,
    t_max=80,
    alpha_f=0.1,
)
for mult in (1.0, 1.5, 2.0):
    composer_case(
        composer.CosineAnnealingWarmRestartsScheduler,
        lambda t, mult=mult: composer_restarts(t, 7, mult),
        t_0=7,
        t_mult=mult,
        alpha_f=0.1,
    )


def composer_warm(decay, first=1.0, steps=80):
    def formula(t):
        if t < 10:
            return first * t / 10
        return decay(min(1.0, (t - 10) / (steps - 10)) if steps > 10 else 0.0)

    return formula


composer_case(
    composer.MultiStepWithWarmupScheduler,
    lambda t: t / 10 if t < 10 else 0.5 ** ((t >= 5) + (t >= 30)),
    t_warmup=10,
    milestones=[5, 30],
    gamma=0.5,
)
composer_case(
    composer.ConstantWithWarmupScheduler, lambda t: 0.5 * min(1, t / 10), t_warmup=10, alpha=0.5
)
for steps in (80, 10):
    composer_case(
        composer.LinearWithWarmupScheduler,
        composer_warm(lambda p: 0.5 - 0.4 * p, 0.5, steps),
        t_warmup=10,
        alpha_i=0.5,
        alpha_f=0.1,
        t_max=steps,
    )
    composer_case(
        composer.CosineAnnealingWithWarmupScheduler,
        composer_warm(lambda p: 0.1 + 0.9 * half_wave(p), 1.0, steps),
        t_warmup=10,
        t_max=steps,
        alpha_f=0.1,
    )
    composer_case(
        composer.PolynomialWithWarmupScheduler,
        composer_warm(lambda p: 0.1 + 0.9 * (1 - p) ** 2, 1.0, steps),
        t_warmup=10,
        t_max=steps,
        alpha_f=0.1,
    )


# The schedule ratio scales what is given in updates, and the line of the warmup only if asked to.
for ratio in (0.5, 1.5):
    for scaled in (False, True):
        line = int(10 * ratio) if scaled else 10
        last = int(80 * ratio)
        more = {"t_warmup": 10, "scale_warmup": scaled, "scale_schedule_ratio": ratio}

        def composer_scaled(decay, first=1.0, line=line, last=last):
            def formula(t):
                if t < 10:
                    return first * min(1, t / line)
                return decay(min(1.0, (t - 10) / (last - 10)))

            return formula

        composer_case(
            composer.MultiStepWithWarmupScheduler,
            lambda t, line=line, ratio=ratio: (
                min(1, t / line) if t < 10 else 0.5 ** (t >= int(31 * ratio))
            ),
            milestones=[31],
            gamma=0.5,
            **more,
        )
        composer_case(
            composer.ConstantWithWarmupScheduler,
            composer_scaled(lambda p: 0.5, 0.5),
            alpha=0.5,
            **more,
        )
        composer_case(
            composer.LinearWithWarmupScheduler,
            composer_scaled(lambda p: 0.5 - 0.4 * p, 0.5),
            alpha_i=0.5,
            alpha_f=0.1,
            t_max=80,
            **more,
        )
        composer_case(
            composer.CosineAnnealingWithWarmupScheduler,
            composer_scaled(lambda p: 0.1 + 0.9 * half_wave(p)),
            t_max=80,
            alpha_f=0.1,
            **more,
        )
        composer_case(
            composer.PolynomialWithWarmupScheduler,
            composer_scaled(lambda p: 0.1 + 0.9 * (1 - p) ** 2),
            t_max=80,
            alpha_f=0.1,
            **more,
        )
    composer_case(
        composer.StepScheduler,
        lambda t, ratio=ratio: 0.5 ** (t // int(31 * ratio)),
        step_size=31,
        gamma=0.5,
        scale_schedule_ratio=ratio,
    )
    composer_case(
        composer.CosineAnnealingScheduler,
        lambda t, ratio=ratio: half_wave(min(1, t / int(81 * ratio))),
        t_max=81,
        scale_schedule_ratio=ratio,
    )


FIRST = {param.values[0]: param for param in reversed(CASES)}.values()
REST = {(param.values[0], *param.values[4]): param for param in reversed(CASES)}.values()
arguments = ("build", "rate", "length", "known", "keywords", "formula")


@pytest.mark.parametrize(arguments, CASES)
def test_the_rates_are_those_of_the_formula(build, rate, length, known, keywords, formula, x64):
    counts = np.arange(length + 31, dtype=np.float64)
    expected = np.array([formula(int(t)) for t in counts])
    peak = np.max(np.abs(expected))
    single = build(**keywords)(counts.astype(np.float32))
    np.testing.assert_allclose(single, expected, rtol=0, atol=1e-6 * peak)
    with x64:
        double = build(**keywords)(counts)
    np.testing.assert_allclose(double, expected, rtol=0, atol=1e-12 * peak)


@pytest.mark.slow
@pytest.mark.parametrize(arguments, FIRST)
def test_laws_of_every_function(build, rate, length, known, keywords, formula):
    compat_laws.check(build, rate, length, known, **keywords)


@pytest.mark.slow
@pytest.mark.parametrize(arguments, REST)
def test_laws_of_every_set_of_arguments(build, rate, length, known, keywords, formula):
    compat_laws.check(build, rate, length, known, **keywords)


# The tables of the survey, made by running the frameworks' own files: peak 1, end 0.1, a warmup of
# 10 of 100.
AT = [0, 1, 9, 10, 11, 55, 99, 100, 101, 150]
COSINES = [
    (
        megatron.OptimizerParamScheduler(0.0, 1.0, 0.1, 10, 100, "cosine"),
        [0, 0.1, 0.9, 1, 0.99973, 0.55, 0.10027, 0.1, 0.1, 0.1],
    ),
    (
        nemo.CosineAnnealing(1.0, max_steps=100, warmup_steps=10, min_lr=0.1),
        [0.09091, 0.18182, 0.90909, 1, 0.99973, 0.55, 0.10027, 0.1, 0.1, 0.1],
    ),
    (
        nemo.CosineAnnealing(1.0, max_steps=100, warmup_steps=10, constant_steps=10, min_lr=0.1),
        [0, 0.1, 0.9, 1, 0.99965, 0.46221, 0.1, 0.1, 0.1, 0.1],
    ),
    (
        deepspeed.WarmupCosineLR(
            1.0, 100, warmup_num_steps=10, cos_min_ratio=0.1, warmup_type="linear"
        ),
        [0, 0, 0.8, 0.9, 0.99973, 0.55, 0.10027, 0.1, 0.1, 0.1],
    ),
    (
        deepspeed.WarmupCosineLR(1.0, 100, warmup_num_steps=10, cos_min_ratio=0.1),
        [0, 0, 0.95424, 1, 0.99973, 0.55, 0.10027, 0.1, 0.1, 0.1],
    ),
    (
        maxtext.create_learning_rate_schedule(
            1.0, 200, learning_rate_schedule_steps=100, version="closed_warmup"
        ),
        [0, 0.11111, 1, 1, 0.99972, 0.54206, 0.1, 0, 0, 0],
    ),
    (
        big_vision.create_learning_rate_schedule(100, decay_type="cosine", warmup_steps=10),
        [0, 0.1, 0.9, 1, 0.99970, 0.5, 0.00030, 0, 0, 0],
    ),
    (
        t5x.create_learning_rate_scheduler(
            "constant * linear_warmup * cosine_decay", 1.0, warmup_steps=10, steps_per_cycle=90
        ),
        [0, 0.1, 0.9, 1, 0.99970, 0.5, 0.00030, 1, 0.9997, 0.41318],
    ),
]
WSD_AT = [0, 79, 80, 81, 90, 99, 100, 101]
WSDS = [
    *[
        (
            megatron.OptimizerParamScheduler(
                0.0, 1.0, 0.1, 10, 100, "WSD", wsd_decay_steps=20, lr_wsd_decay_style=style
            ),
            [0, 1, 1, *values, 0.1, 0.1],
        )
        for style, values in {
            "linear": [0.955, 0.55, 0.145],
            "minus_sqrt": [0.798754, 0.363604, 0.122789],
            "cosine": [0.994460, 0.55, 0.105540],
            "exponential": [0.938685, 0.472792, 0.131738],
        }.items()
    ],
    (
        nemo.WarmupHoldAnnealOneMinusSquareRoot(
            1.0, max_steps=100, warmup_steps=10, hold_steps=70, min_lr=0.1
        ),
        [0.0909091, 1, 1, 0.776393, 0.292893, 0.1, 0.1, 0.1],
    ),
    (
        maxtext.create_learning_rate_schedule(
            1.0,
            200,
            learning_rate_schedule_steps=100,
            lr_schedule_type="wsd",
            wsd_decay_steps_fraction=0.2,
        ),
        [0, 1, 1, 0.952632, 0.526316, 0.1, 0, 0],
    ),
    (
        big_vision.create_learning_rate_schedule(100, warmup_steps=10, cooldown_steps=20),
        [0, 1, 1, 0.95, 0.5, 0.05, 0, -0.05],
    ),
]


@pytest.mark.parametrize(("schedule", "expected"), COSINES)
def test_the_survey_of_cosines(schedule, expected):
    np.testing.assert_allclose(schedule.values(AT), expected, rtol=0, atol=6e-5)


@pytest.mark.parametrize(("schedule", "expected"), WSDS)
def test_the_survey_of_cooldowns(schedule, expected):
    np.testing.assert_allclose(schedule.values(WSD_AT), expected, rtol=0, atol=1e-6)


def test_the_survey_of_others():
    roots = megatron.OptimizerParamScheduler(0.0, 1.0, 0.0, 100, 1000, "inverse-square-root")
    assert float(roots(101)) == pytest.approx(0.995037, abs=1e-6)
    # Levanter's inverse square root is flat until 10 000 updates.
    flat = levanter.lr_scheduler(20_000, learning_rate=1.0, warmup=100, lr_schedule="inv_sqrt")
    np.testing.assert_allclose(
        flat.values([100, 5000, 9999, 19_999]), [1, 1, 1, 19_999**-0.5 * 100], rtol=1e-5
    )
    keywords = {
        "total_num_steps": 100,
        "warmup_max_lr": 1.0,
        "warmup_num_steps": 10,
        "warmup_type": "linear",
    }
    decay = deepspeed.WarmupDecayLR(**keywords)
    assert float(deepspeed.WarmupDecayLR(total_num_steps=2000).values(1002)[1001]) == pytest.approx(
        0.001
    )
    assert float(decay(100)) == pytest.approx(0.011, abs=2e-4)
    drop = nemo.SquareRootAnnealing(1.0, max_steps=100, warmup_steps=10)
    np.testing.assert_allclose(drop.values([10, 11]), [1.0, 0.943], atol=5e-4)


def test_the_figures_of_maxtexts_pull_request():
    counts = np.arange(7)
    expected = {
        "closed_warmup": [
            0.0,
            0.5,
            1.0,
            1.0,
            0.9397114515304565,
            0.7749999761581421,
            0.5499999523162842,
        ],
        "current": [
            0.0,
            0.3333333730697632,
            0.6666666865348816,
            1.0,
            0.9397114515304565,
            0.775,
            0.55,
        ],
        "open_decay": [
            0.0,
            0.3333333730697632,
            0.666666686,
            1.0,
            0.9554359912872314,
            0.8305704593,
            0.6501344442,
        ],
    }
    for version, rates in expected.items():
        schedule = maxtext.create_learning_rate_schedule(
            1.0, 12, learning_rate_schedule_steps=10, warmup_steps_fraction=0.3, version=version
        )
        np.testing.assert_allclose(schedule.values(counts), rates, rtol=0, atol=1e-6)


def test_durations():
    horizon = lrax.Horizon(epochs=90, dataset_size=50, batch_size=1)
    build = composer.CosineAnnealingWithWarmupScheduler
    assert repr(build(1.0, "5ep", "1dur", horizon=horizon)) == repr(build(1.0, 250, 4500))
    assert repr(build(1.0, "0.1dur", "100ba", horizon=lrax.Horizon(99))) == repr(build(1.0, 9, 100))
    sized = {"batch_size": 10, "data_size": 105}
    schedule = big_vision.create_learning_rate_schedule
    for keywords, steps in [
        ({"warmup_epochs": 1}, 10),
        ({"warmup_examples": 25}, 2),
        ({"warmup_examples": 1}, 1),
        ({"warmup_percent": 0.055}, 6),
        ({"warmup_percent": 0.0}, 0),
    ]:
        given = schedule(100, decay_type="cosine", **sized, **keywords)
        assert repr(given) == repr(schedule(100, decay_type="cosine", warmup_steps=steps)), keywords
    scaled = schedule(100, batch_size=512, base=0.5, decay_type="cosine", scale_with_batchsize=True)
    assert repr(scaled) == repr(lrax.cosine(1.0, 100))
    halves = nemo.CosineAnnealing(1.0, max_steps=105, warmup_ratio=0.1)
    assert repr(halves) == repr(nemo.CosineAnnealing(1.0, max_steps=105, warmup_steps=10))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: deepspeed.WarmupLR(), "`lr` or `warmup_max_lr` must be given"),
        (lambda: deepspeed.WarmupLR(0.1, warmup_type="cosine"), "`warmup_type`"),
        (lambda: deepspeed.OneCycle(0.1, 1.0, cycle_first_step_size=0), "`cycle_first_step_size`"),
        (lambda: deepspeed.LRRangeTest(lr_range_test_step_size=0), "`lr_range_test_step_size`"),
        (
            lambda: megatron.OptimizerParamScheduler(0.0, 1.0, 0.1, 100, 100, "cosine"),
            "`lr_decay_steps` must be above `lr_warmup_steps`",
        ),
        (
            lambda: megatron.OptimizerParamScheduler(0.0, 1.0, 0.1, 10, 100, "WSD"),
            "`wsd_decay_steps`",
        ),
        (
            lambda: megatron.OptimizerParamScheduler(0.0, 1.0, 0.1, 10, 100, "cos"),
            "`lr_decay_style`",
        ),
        (
            lambda: megatron.OptimizerParamScheduler(0.0, 0.1, 1.0, 10, 100, "cosine"),
            "`min_lr` must be at most",
        ),
        (lambda: megatron.weight_decay(0.0, 0.1, 100, "constant"), "`end_wd` must be `start_wd`"),
        (
            lambda: nemo.WarmupPolicy(0.1, warmup_steps=1, warmup_ratio=0.1, max_steps=10),
            "`warmup_steps` or",
        ),
        (lambda: nemo.WarmupPolicy(0.1, warmup_ratio=0.1), "`max_steps` must be given"),
        (
            lambda: nemo.CosineAnnealing(0.1, max_steps=10, warmup_steps=10),
            "`max_steps` must be above the warmup",
        ),
        (
            lambda: nemo.CosineAnnealing(0.1, max_steps=10, min_lr=1.0),
            "`min_lr` must be at most `lr`",
        ),
        (lambda: nemo.NoamHoldAnnealing(0.1, max_steps=10), "`warmup_steps`"),
        (
            lambda: maxtext.create_learning_rate_schedule(
                learning_rate_schedule_steps=10, lr_schedule_type="wsd", warmup_steps_fraction=0.95
            ),
            "`warmup_steps_fraction`",
        ),
        (
            lambda: maxtext.create_learning_rate_schedule(
                learning_rate_schedule_steps=10, version="3"
            ),
            "`version`",
        ),
        (lambda: big_vision.create_learning_rate_schedule(100, decay_type="exp"), "`decay_type`"),
        (
            lambda: big_vision.create_learning_rate_schedule(100, warmup_epochs=1),
            "`batch_size` must be given",
        ),
        (
            lambda: big_vision.create_learning_rate_schedule(100, warmup_steps=100),
            "`total_steps` must be above the warmup",
        ),
        (
            lambda: t5x.create_learning_rate_scheduler("constant * cosine"),
            "`factors` must be one of",
        ),
        (lambda: t5x.create_learning_rate_scheduler(warmup_steps=0), "`warmup_steps`"),
        (
            lambda: levanter.lr_scheduler(100, cycles=2, cycle_length=50),
            "`cycle_length` or `cycles`",
        ),
        (lambda: levanter.lr_scheduler(100, lr_schedule="power", batch_size=8), "got 8 and None"),
        (lambda: levanter.lr_scheduler(100, lr_schedule="exp"), "`lr_schedule`"),
        (lambda: composer.LinearScheduler(0.1), "`horizon` must be given for `t_max`"),
        (
            lambda: composer.StepScheduler(0.1, "3tok"),
            "`step_size` must be a number of updates, or text such as",
        ),
        (lambda: composer.CosineAnnealingWarmRestartsScheduler(0.1, 10, 0.5), "`t_mult`"),
    ],
)
def test_bad_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_unknown_arguments():
    with pytest.raises(TypeError, match="warmpu_steps"):
        big_vision.create_learning_rate_schedule(100, warmpu_steps=10)
