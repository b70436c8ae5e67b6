"""Names and ids of containers: what may be one, how one is made up."""

import re
import secrets

from pybuild.errors import UsageError

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_ID = re.compile(r"[0-9a-f]{1,64}")
SHORT = 12  # hex digits of an id that listings show

_ADJECTIVES = """
able airy amber ample awake balmy bold brave brisk bright calm candid careful cheery clear clever cosy crisp curious
dapper daring deft eager early earnest easy elegant fair faithful famous fancy fearless festive fine firm fond frank
free fresh friendly frosty gentle gifted glad golden graceful grand grateful happy hardy hearty helpful honest
hopeful humble jolly joyful keen kind lively loyal lucid lucky mellow merry mighty mild modest neat nifty nimble
noble patient peaceful plucky polite proud prudent quick quiet rapid ready robust rosy sage serene sharp shiny
silent sincere skilled smooth snug solid spry stable steady stoic sturdy sunny swift tender thankful thorough tidy
tranquil trusty upbeat valiant vivid warm watchful whole willing wise witty young zealous
"""
_SURNAMES = """
abel ampere archimedes babbage banach bernoulli bohr boltzmann boole borg brahe cantor carson cauchy cavendish cerf
chandrasekhar curie dalton darwin descartes dijkstra dirac easley einstein erdos euclid euler faraday fermat fermi
feynman fibonacci fourier franklin galilei galois gauss germain goedel goodall hamilton heisenberg herschel hertz
hilbert hopper huygens hypatia jemison johnson joliot kahn kepler kernighan khayyam knuth kolmogorov kovalevskaya
lagrange lamarr lamport laplace leavitt leibniz linnaeus liskov lovelace maxwell mayer mccarthy mcclintock meitner
mendel mendeleev mirzakhani naur nernst newton nightingale nobel noether ohm pascal pasteur pauling perlman planck
poincare ptolemy ramanujan riemann ritchie rubin rutherford sammet shannon sinoussi stallings tesla thompson turing
vaughan villani volta wirth wu yalow
"""


def check_name(name: str) -> str:
    """Return `name` if a container (or a volume) may be called so. Raises UsageError."""
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise UsageError(
            f"not a name for a container or volume: {name[:80]!r}",
            hint="at least two characters: letters, digits, _ . and -, the first one a letter or digit",
        )
    return name


def new_id() -> str:
    return secrets.token_hex(32)


def is_id_prefix(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def random_name(attempt: int = 0) -> str:
    """An adjective and the surname of a scientist; with a number from the third attempt on."""
    name = f"{secrets.choice(_ADJECTIVES.split())}_{secrets.choice(_SURNAMES.split())}"
    return f"{name}{secrets.randbelow(100)}" if attempt > 1 else name
