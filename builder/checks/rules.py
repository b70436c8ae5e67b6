"""The rules: names, descriptions and pages; word by word BuildKit's where the rule is, for programs match on them."""

from msgspec import Struct

_PAGES = "https://docs.docker.com/go/dockerfile/rule/"
_OUR_PAGES = "docs/checks/"


class Rule(Struct, frozen=True):
    name: str
    description: str
    url: str = ""
    experimental: bool = False  # silent unless `# check=experimental=` names it
    ours: bool = False


def _theirs(name: str, page: str, description: str, *, experimental: bool = False) -> Rule:
    return Rule(name, description, f"{_PAGES}{page}/" if page else "", experimental)


def _ours(name: str, description: str) -> Rule:
    return Rule(name, description, f"{_OUR_PAGES}{name}.md", ours=True)


_ALL = (
    _theirs("StageNameCasing", "stage-name-casing", "Stage names should be lowercase"),
    _theirs("FromAsCasing", "from-as-casing", "The 'as' keyword should match the case of the 'from' keyword"),
    _theirs(
        "NoEmptyContinuation",
        "no-empty-continuation",
        "Empty continuation lines will become errors in a future release",
    ),
    _theirs(
        "ConsistentInstructionCasing",
        "consistent-instruction-casing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    _theirs("DuplicateStageName", "duplicate-stage-name", "Stage names should be unique"),
    _theirs("ReservedStageName", "reserved-stage-name", "Reserved words should not be used as stage names"),
    _theirs(
        "JSONArgsRecommended",
        "json-args-recommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    _theirs(
        "MaintainerDeprecated",
        "maintainer-deprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    _theirs("UndefinedArgInFrom", "undefined-arg-in-from", "FROM command must use declared ARGs"),
    _theirs(
        "WorkdirRelativePath",
        "workdir-relative-path",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the "
        "base image changes",
    ),
    _theirs("UndefinedVar", "undefined-var", "Variables should be defined before their use"),
    _theirs(
        "MultipleInstructionsDisallowed",
        "multiple-instructions-disallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    _theirs(
        "LegacyKeyValueFormat",
        "legacy-key-value-format",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    _theirs("InvalidBaseImagePlatform", "", "Base image platform does not match expected target platform"),
    _theirs(
        "RedundantTargetPlatform",
        "redundant-target-platform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    _theirs(
        "SecretsUsedInArgOrEnv",
        "secrets-used-in-arg-or-env",
        "Sensitive data should not be used in the ARG or ENV commands",
    ),
    _theirs(
        "InvalidDefaultArgInFrom",
        "invalid-default-arg-in-from",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    _theirs(
        "FromPlatformFlagConstDisallowed",
        "from-platform-flag-const-disallowed",
        "FROM --platform flag should not use a constant value",
    ),
    _theirs("CopyIgnoredFile", "copy-ignored-file", "Attempting to Copy file that is excluded by .dockerignore"),
    _theirs(
        "InvalidDefinitionDescription",
        "invalid-definition-description",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is "
        "not intended to be a description comment, add an empty line or comment between the instruction and the "
        "comment.",
        experimental=True,
    ),
    _theirs("ExposeProtoCasing", "expose-proto-casing", "Protocol in EXPOSE instruction should be lowercase"),
    _theirs(
        "ExposeInvalidFormat",
        "expose-invalid-format",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a "
        "future release",
    ),
    _ours("PybuildUnknownOwner", "A name in --chown must be known to the files it is copied to"),
    _ours("PybuildHeredocErrexit", "A heredoc of several commands goes on after one that fails, unless told otherwise"),
    _ours("PybuildManySourcesOneFile", "Several sources need a destination that is a directory"),
    _ours("PybuildDirectoryMode", "Directories that have no x in their mode can't be entered"),
    _ours("PybuildArgHidesEnv", "ARG takes the place of an ENV of the same name for the rest of the stage"),
    _ours("PybuildSecretInLayer", "What a layer has got stays in it, also when a later step removes it"),
)

RULES = {rule.name: rule for rule in _ALL}
