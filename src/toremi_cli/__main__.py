"""Where the `toremi` command begins: before anything is imported, so that Ctrl-C is orderly from the first moment."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script."""
    try:
        from toremi_cli.cli import main as run

        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
