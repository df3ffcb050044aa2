"""Phrases of the same meaning in two languages, rendered by Babel from the CLDR.

Built-in data for every machine with Babel: dates, durations, units, amounts of money, and names of
territories, languages and currencies, alone and in lists, in any two of some hundred locales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias

from embshare.errors import MissingPackageError
from embshare.tasks.errors import MissingDataError

if TYPE_CHECKING:
    from babel import Locale

__all__ = ["PARTS_OF_SPEED", "Names", "Renderer", "draw_phrase", "phrase_pairs"]

Phrase: TypeAlias = Callable[["Renderer"], str]
"""Meaning of a phrase; the renderer of a language puts it into words."""

UNITS: Final = (
    "area-hectare area-square-kilometer area-square-meter digital-gigabyte digital-megabyte "
    "digital-kilobyte duration-century duration-year duration-month duration-week duration-day "
    "duration-hour duration-minute duration-second electric-ampere electric-volt energy-joule "
    "energy-kilowatt-hour energy-kilocalorie frequency-hertz length-kilometer length-meter "
    "length-centimeter length-millimeter length-mile length-foot length-inch length-light-year "
    "length-nautical-mile mass-tonne mass-kilogram mass-gram mass-pound mass-ounce mass-carat "
    "power-kilowatt power-watt power-horsepower pressure-bar pressure-hectopascal "
    "temperature-celsius temperature-fahrenheit volume-liter volume-milliliter "
    "volume-cubic-meter volume-tablespoon volume-teaspoon volume-barrel"
).split()
PARTS_OF_SPEED: Final = (
    ("length-kilometer", "duration-hour"),
    ("length-mile", "duration-hour"),
    ("length-meter", "duration-second"),
    ("mass-gram", "volume-liter"),
    ("mass-kilogram", "area-square-meter"),
    ("volume-liter", "duration-minute"),
    ("digital-megabyte", "duration-second"),
)
"""Pairs of units of a rate: the first per one of the second."""
CURRENCIES: Final = (
    "USD EUR GBP JPY CHF SEK NOK DKK PLN CZK HUF RUB CNY INR BRL TRY MXN KRW".split()
)
LANGUAGES: Final = (
    "en de fr es it pt nl sv da nb fi is pl cs sk hu ro bg el ru uk tr ar he fa hi bn ta th vi "
    "id ms zh ja ko sw am ka hy az kk lt lv et sq sr hr sl mk ga cy eu ca gl af zu ne mn km lo"
).split()
GRANULARITIES: Final = ("year", "month", "week", "day", "hour", "minute", "second")


@dataclass(frozen=True)
class Names:
    """Codes of territories and languages that have a name in both languages."""

    territories: Sequence[str]
    languages: Sequence[str]


@dataclass(frozen=True)
class Renderer:
    """Renders phrases in one language."""

    locale: Locale

    @classmethod
    def of(cls, language: str) -> Renderer:
        """Make the renderer of a locale as the CLDR writes it: ``de``, ``pt_BR``, ``zh-Hant``.

        Raises:
            MissingDataError: Babel does not know the locale.
            MissingPackageError: Babel is not installed.
        """
        try:
            from babel import Locale, UnknownLocaleError
        except ModuleNotFoundError as error:
            raise MissingPackageError(package="babel", extra="translation") from error
        try:
            return cls(Locale.parse(language.replace("-", "_")))
        except (UnknownLocaleError, ValueError) as error:
            raise MissingDataError(
                "CLDR",
                needs=f"have the language {language!r}",
                has="Babel knows no such locale",
                hint="Name another one (de, pt_BR, zh_Hant), or a folder as `data`.",
            ) from error

    def date(self, when: datetime, style: str) -> str:
        from babel.dates import format_date

        return str(format_date(when, style, locale=self.locale))

    def moment(self, when: datetime, style: str) -> str:
        from babel.dates import format_datetime

        return str(format_datetime(when, style, locale=self.locale))

    def distance(self, seconds: float, granularity: str) -> str:
        """Time since or until a moment."""
        from babel.dates import format_timedelta

        delta = timedelta(seconds=seconds)
        return str(
            format_timedelta(
                delta,
                granularity=granularity,  # type: ignore[arg-type]
                threshold=float("inf"),
                add_direction=True,
                locale=self.locale,
            )
        )

    def amount(self, number: float, unit: str) -> str:
        from babel.units import format_unit

        return str(format_unit(number, unit, length="long", locale=self.locale))

    def rate(self, number: float, unit: str, per: str) -> str:
        from babel.units import format_compound_unit

        found = format_compound_unit(
            number, unit, denominator_unit=per, length="long", locale=self.locale
        )
        return str(found)

    def money(self, number: float, currency: str) -> str:
        from babel.numbers import format_currency

        return str(format_currency(number, currency, locale=self.locale, format_type="name"))

    def territory(self, code: str) -> str:
        return str(self.locale.territories[code])

    def language(self, code: str) -> str:
        return str(self.locale.languages[code])

    def all_of(self, parts: Sequence[str]) -> str:
        from babel.lists import format_list

        return str(format_list(list(parts), locale=self.locale))


def phrase_pairs(source: str, target: str, *, count: int, seed: int) -> list[tuple[str, str]]:
    """Render pairs of phrases, reproducibly for a seed and a version of Babel.

    Args:
        source: locale of the source phrases.
        target: locale of their translations.
        count: number of pairs. No source phrase occurs in two of them.
        seed: seed of the phrases.
    Raises:
        MissingDataError: Babel does not know a locale, or no territory or no language has a name
            in both.
        MissingPackageError: Babel is not installed.
    """
    renderers = Renderer.of(source), Renderer.of(target)
    names = _names_in_both(*(renderer.locale for renderer in renderers))
    random, seen = Random(seed), set()
    found: list[tuple[str, str]] = []
    for phrase in _phrases(random, names):
        first, second = (_one_line(phrase(renderer)) for renderer in renderers)
        if first not in seen:
            seen.add(first)
            found.append((first, second))
            if len(found) == count:
                break
    return found


def _names_in_both(source: Locale, target: Locale) -> Names:
    territories = sorted(
        filter(str.isalpha, map(str, source.territories.keys() & target.territories.keys()))
    )
    known = source.languages.keys() & target.languages.keys()
    languages = [code for code in LANGUAGES if code in known]
    for kind, codes in (("territory", territories), ("language", languages)):
        if not codes:
            raise MissingDataError(
                "CLDR",
                needs=f"have names in both {str(source)!r} and {str(target)!r}",
                has=f"has the name of no {kind} in both",
                hint="Name another language, or a folder as `data`.",
            )
    return Names(territories, languages)


def _one_line(text: str) -> str:
    """Replace the CLDR's narrow and fixed spaces by ordinary ones."""
    return " ".join(text.split())


def _phrases(random: Random, names: Names) -> Iterator[Phrase]:
    while True:
        yield draw_phrase(random, names)


def draw_phrase(random: Random, names: Names) -> Phrase:
    """Draw the meaning of a phrase, or of two of one kind in a list."""
    kinds = (_date, _moment, _distance, _amount, _rate, _money, _territory, _language)
    kind = random.choice(kinds)
    many = random.choice((1, 1, 1, 2))
    if kind in (_date, _moment) or many == 1:
        return kind(random, names)
    parts = [kind(random, names) for _ in range(many)]
    return lambda say: say.all_of([part(say) for part in parts])


def _date(random: Random, _: Names) -> Phrase:
    when, style = _when(random), random.choice(("full", "long", "medium"))
    return lambda say: say.date(when, style)


def _moment(random: Random, _: Names) -> Phrase:
    when, style = _when(random), random.choice(("long", "medium", "short"))
    return lambda say: say.moment(when, style)


def _when(random: Random) -> datetime:
    start = datetime(2000, 1, 1, tzinfo=UTC)
    return start + timedelta(minutes=15 * random.randrange(30 * 365 * 24 * 4))


def _distance(random: Random, _: Names) -> Phrase:
    granularity = random.choice(GRANULARITIES)
    lengths = {"year": 31_536_000, "month": 2_628_000, "week": 604_800, "day": 86_400}
    unit = lengths.get(granularity) or {"hour": 3600, "minute": 60, "second": 1}[granularity]
    seconds = unit * random.randint(1, 30) * random.choice((-1, 1))
    return lambda say: say.distance(seconds, granularity)


def _amount(random: Random, _: Names) -> Phrase:
    number, unit = _number(random), random.choice(UNITS)
    return lambda say: say.amount(number, unit)


def _rate(random: Random, _: Names) -> Phrase:
    number, (unit, per) = _number(random), random.choice(PARTS_OF_SPEED)
    return lambda say: say.rate(number, unit, per)


def _money(random: Random, _: Names) -> Phrase:
    number, currency = _number(random), random.choice(CURRENCIES)
    return lambda say: say.money(number, currency)


def _number(random: Random) -> float:
    """Draw a number: mostly small, some with a fraction, some in the thousands."""
    match random.randrange(8):
        case 0:
            return 100 * random.randint(10, 99)
        case 1:
            return random.randint(1, 99) / 10
        case _:
            return random.randint(1, 30)


def _territory(random: Random, names: Names) -> Phrase:
    code = random.choice(names.territories)
    return lambda say: say.territory(code)


def _language(random: Random, names: Names) -> Phrase:
    code = random.choice(names.languages)
    return lambda say: say.language(code)
