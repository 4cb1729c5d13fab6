"""What MkDocs cannot do alone: links of the guides into the sources, two pages of the repository's root, and the
command reference, which is what the programs print.  Named in mkdocs.yml."""
import os
import re
import subprocess
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")  # of the root, shown on the site
PROGRAMS = ("swarm-node", "swarm-ask", "swarm-gateway", "swarm-convert", "swarm-store", "swarm-bench", "swarm-eval")


def on_files(files, config):
    for name in PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text().replace("](docs/", "](")))
    return files


def printed(*words):
    program = Path(os.environ.get("BIN", ROOT / "build/bin")) / words[0]
    if not program.exists():
        raise PluginError(f"{program} is not there: build the programs first; the command reference is what they print")
    return subprocess.run([program, *words[1:], "--help"], capture_output=True, text=True, check=True).stdout


def reference():
    """--help of every program and of each of its commands."""
    out = []
    for program in PROGRAMS:
        text = printed(program)
        out.append(f"## {program}\n\n```text\n{text}```\n")
        commands = text.split("\nCommands:\n")
        for command in re.findall(r"(?m)^  ([a-z][a-z-]+) +\S", commands[1] if len(commands) > 1 else ""):
            out.append(f"### {program} {command}\n\n```text\n{printed(program, command)}```\n")
    return "\n".join(out)


def on_page_markdown(markdown, page, config, files):
    if page.file.src_uri == "cli.md":
        markdown = markdown.replace("<!-- every program's help -->", reference())
    at = config["extra"].get("source", "").rstrip("/")

    def outside(link):
        """A file of the repository that is no page."""
        text, target = link[1], link[2].removeprefix("../")
        if target.split("#")[0] in PAGES:
            return f"[{text}]({target})"
        if at:
            return f"[{text}]({at}/{target})"
        return text if target in text or target.startswith("README.md") else f"{text} (`{target}`)"

    if page.file.src_uri in PAGES:
        return re.sub(r"\[([^\]]+)\]\(((?:README|LICENSE|models|tests|scripts|CODE)[^)]*)\)", outside, markdown)
    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]+)\)", outside, markdown)
