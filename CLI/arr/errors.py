"""Every failure that arr knows, on one page.

    ArrError                      1  something failed
    |- UsageError                 2  the command, the settings or the files it reads are wrong
    |  |- ConfigError                arr.toml, stack.toml, stack.lock, an environment variable
    |  |- GitError                   not a repository, no commit yet, an unknown revision
    |  |- ManifestError              .image-manifest, or what it selects
    |  |- DockerfileError            a Dockerfile that cannot be read or resolved
    |  |- DirtyError                 inputs with uncommitted changes
    |  `- MissingTool                a program that this machine lacks
    |- AuthError                  3  credentials are missing or refused
    |- QuotaError                 4  quota or capacity
    |- BuildError                 5  an image could not be built, or did not pass its smoke test
    |- RegistryError              6  the registry or the network
    |- RunError                   7  the training run failed and has no exit code of its own
    `- Interrupted              130  Ctrl-C, or a TERM signal

Each error says what happened and to what (the message) and what to do next (the hint).
"""

from __future__ import annotations


class ArrError(Exception):
    """A failure that a user can understand: `message` says what happened, `hint` what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(ArrError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class GitError(UsageError):
    pass


class ManifestError(UsageError):
    pass


class DockerfileError(UsageError):
    pass


class DirtyError(UsageError):
    pass


class MissingTool(UsageError):
    pass


class AuthError(ArrError):
    exit_code = 3


class QuotaError(ArrError):
    exit_code = 4


class BuildError(ArrError):
    exit_code = 5


class RegistryError(ArrError):
    exit_code = 6


class RunError(ArrError):
    exit_code = 7


class Interrupted(ArrError):
    exit_code = 130
