"""Shell completion of commands, options, choices and configuration files."""

from __future__ import annotations

from planning.cli.commands import COMMANDS, file_name, load_command
from planning.cli.fields import UsageError, group_names, layout, option_choices
from planning.cli.values import plain_text

SCRIPTS = {
    "bash": """\
_worldmodel() {
    local cur line
    cur="${COMP_LINE:0:COMP_POINT}"
    cur="${cur##*[[:space:]]}"
    local words=(${COMP_LINE:0:COMP_POINT})
    [[ -n "$cur" ]] && unset 'words[-1]'
    COMPREPLY=()
    while IFS= read -r line; do
        # bash splits words at `=`: only the part behind it is replaced.
        [[ "$COMP_WORDBREAKS" == *=* && "$cur" == *=* ]] && line="${line#"${cur%%=*}="}"
        COMPREPLY+=("$line")
    done < <("${words[0]}" --complete "$cur" "${words[@]:1}" 2>/dev/null)
    [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -o default -F _worldmodel worldmodel
""",
    "zsh": """\
#compdef worldmodel
_worldmodel() {
    local -a found
    local -a before=("${(@)words[2,CURRENT-1]}")
    found=(${(f)"$(${words[1]} --complete "${words[CURRENT]}" $before 2>/dev/null)"})
    compadd -S '' -Q -- $found || _files
}
compdef _worldmodel worldmodel
""",
    "fish": """\
function __worldmodel
    set -l words (commandline -opc)
    $words[1] --complete (commandline -ct) $words[2..-1] 2>/dev/null
end
complete -c worldmodel -a '(__worldmodel)'
""",
}


def script(shell: str) -> str:
    """Return the completion script of a shell.

    Raises:
        UsageError: The shell is not supported.
    """
    if shell not in SCRIPTS:
        raise UsageError(f"--completion {shell!r} is not supported. Allowed: {', '.join(SCRIPTS)}.")
    return SCRIPTS[shell]


def candidates(current: str, words: list[str]) -> list[str]:
    """Return the words that complete `current` after the preceding words."""
    name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in COMMANDS), "")
    if not name:
        depth = len(words)
        parts = [known.split() for known in COMMANDS if known.split()[:depth] == words]
        found = [known[depth] for known in parts if len(known) > depth]
    else:
        found = _options(name, current, words)
    return sorted({word for word in found if word.startswith(current)})


def _options(name: str, current: str, words: list[str]) -> list[str]:
    command = load_command(name)
    mode = next((w.removeprefix("mode=") for w in words if w.startswith("mode=")), "")
    kind = command.kinds.get(mode) or next(iter(command.kinds.values()))
    found = layout(kind)
    key, equals, _ = current.partition("=")
    if not equals:
        groups = [section.group for section in found.sections.values() if section.group]
        modes = ["mode"] if "" not in command.kinds else []
        # Offer short names only once a letter is typed; otherwise every option is listed twice.
        short = [o.leaf for o in found.options.values() if current and found.find(o.leaf)]
        keys = [*found.options, *short, *groups, *modes, "recipe"]
        return [f"{key}=" for key in keys] + ["--help"]
    return [f"{key}={value}" for value in _values(name, key, command.kinds, kind)]


def _values(name: str, key: str, kinds: object, kind: type) -> list[str]:
    found = layout(kind)
    if key == "recipe":
        return group_names(file_name(name))
    if key == "mode" and isinstance(kinds, dict) and "" not in kinds:
        return list(kinds)
    section = found.group_section(key)
    if section is not None and key not in found.options:
        return group_names(section.group)
    try:
        option = found.resolve(key, "")
    except UsageError:
        return []
    return ["true", "false"] if option.kind is bool else [*map(plain_text, option_choices(option))]
