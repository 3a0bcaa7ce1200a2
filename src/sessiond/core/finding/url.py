"""What a URL says by itself: what it is for, and whether it carries something made for one mail."""

from __future__ import annotations

import re
from typing import Final

import msgspec

URL_MAX_CHARS: Final = 4_000
SEGMENTS_MAX: Final = 20
PAIRS_MAX: Final = 30
TITLE_MIN_WORDS: Final = 5  # "how-to-reset-a-password" is an article; "confirm-your-email" is none

_URL: Final = re.compile(r"https?://([^/?#\s]++)([^?#\s]*+)(?:\?([^#\s]*+))?(?:#(\S*+))?", re.IGNORECASE)
_FILE: Final = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|ico|css|js|pdf|ics|woff2?)\Z")
_INNER_CAPITAL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LETTERS: Final = re.compile(r"[a-z]++")
_JOINT: Final = re.compile(r"[-_]")
# Where to go afterwards, and what counts clicks, say nothing of what the link does.
_ASIDE: Final = re.compile(r"utm|redirect|return|next|continue|lang|locale|callbackurl", re.IGNORECASE)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Enough that one of the words of a URL has one of these in it.
RENEW_STEMS: Final = _words("""
    reset forgot recover lostpass setpass newpass changepass restablecer redefin reinit zuruecksetz wachtwoord contrasen
    motdepasse haslo sifre vergessen oubli
""")
VERIFY_STEMS: Final = _words("""
    verif confirm activat validat optin magic passwordless onetime bestaetig bestatig aktivier activer valider activar
    ativar attiva conferma bevestig potwierd aktywuj aktywacja dogrula onayla podtverd bekraft bekraeft bekreft vahvist
    freischalt emaillink loginlink signinlink mailauth
""")
PASSWORD_STEMS: Final = _words("password passwort passwd senha kennwort parola salasana")
SIGN_IN_STEMS: Final = _words("login signin logon auth anmeld connexion session otp callback sso acceso entrar")
ELSEWHERE_STEMS: Final = _words("""
    unsubscribe optout preference privacy terms cancel revoke deny notme wasntme abuse survey feedback impressum imprint
    datenschutz abmelden abbestellen desinscri desabonn help support faq contact webversion viewinbrowser invoice
    rechnung download report rsvp appointment booking decline reject legal blog disavow secureaccount lock
""")

ELSEWHERE_HOSTS: Final = _words("""
    facebook. twitter. instagram. linkedin. youtube. tiktok. pinterest. apps.apple. itunes. play.google. t.me wa.me
    discord.gg w3.org schemas.microsoft fonts.googleapis
""")

# What tokens are called in a query, and how such names end.
TOKEN_KEYS: Final = frozenset(
    _words("""
    access activation auth c challenge code confirmation data e emailtoken h hash hmac id jwt k key link m magic nonce
    oobcode ot otk otp payload ref refresh req reset s secret sig signature state t ticket tk tok token uid upn vc vcode
    verification
""")
)
TOKEN_ENDINGS: Final = ("token", "code", "key", "hash", "ticket")


class Address(msgspec.Struct, frozen=True):
    words: str
    """Those of its path and query, in small letters, apart by spaces; the words of a segment also joined."""
    token: float
    """What speaks for a token in it, as log-odds; 0 where there is none."""
    front: bool
    """It leads to a host's front page."""


def read_address(url: str) -> Address | None:
    """Return what `url` says, or None when it leads to no page of the sender's."""
    parsed = _URL.fullmatch(url) if len(url) <= URL_MAX_CHARS else None
    if parsed is None:
        return None
    host, path, query, fragment = (piece or "" for piece in parsed.groups())
    if any(known in host.lower() for known in ELSEWHERE_HOSTS) or _FILE.search(path.lower()[-8:]):
        return None
    if fragment.startswith(("/", "!")):  # an application's own routes
        inner_path, _, inner_query = fragment.partition("?")
        path, query = path + inner_path, f"{query}&{inner_query}"
    segments = [segment for segment in path.split("/") if segment][:SEGMENTS_MAX]
    pairs = [pair.partition("=") for pair in query.split("&") if pair][:PAIRS_MAX]
    said = [segment for segment in segments if not _is_drawn(segment) and not _is_title(segment)]
    token = max((1.3 for segment in segments if _is_drawn(segment)), default=0.0)
    if not token and len(segments) > 1 and len(segments[-1]) >= 4 and any(one.isdigit() for one in segments[-1]):
        token = 0.8
    for key, _, value in pairs:
        if "://" in value or "%3a%2f" in value.lower() or _ASIDE.match(key):
            continue
        if key not in {"password", "pass", "pwd"}:  # then its value is one, and nothing is to be done with it
            said.append(key)
        if value.isalpha() and len(value) <= 24:
            said.append(value)
        token = max(token, _weigh_token(key, value))
    return Address(_spell(said), token, not segments and not pairs)


def _weigh_token(key: str, value: str) -> float:
    if _is_drawn(value):
        return 1.4
    name = "".join(_LETTERS.findall(key.lower()))
    if len(value) >= 3 and (name in TOKEN_KEYS or name.endswith(TOKEN_ENDINGS)):
        return 1.5 if len(value) >= 6 and len(name) > 2 else 1.0
    return 0.8 if len(value) >= 5 and value.isdigit() else 0.0


def _spell(said: list[str]) -> str:
    spoken = [_LETTERS.findall(_INNER_CAPITAL.sub(" ", one).lower()) for one in said]
    return " ".join([*(" ".join(one) for one in spoken), *("".join(one) for one in spoken if len(one) > 1)])


def _is_drawn(text: str) -> bool:
    """Whether `text` looks drawn by lot: long, and not made of words."""
    if len(text) < 10:
        return False
    words_count = sum(word.isalpha() and word.islower() for word in _JOINT.split(text[:200]))
    if words_count >= 3:
        return False
    digits = sum(character.isdigit() for character in text[:200])
    return digits >= 3 or (len(text) >= 20 and (digits > 0 or words_count == 0 or len(text) >= 40))


def _is_title(text: str) -> bool:
    return len(_JOINT.split(text[:200])) >= TITLE_MIN_WORDS
