"""`python -P -m srfgan_cli`: how launchers start the command."""

from srfgan_cli.main import run

if __name__ == "__main__":
    run()
