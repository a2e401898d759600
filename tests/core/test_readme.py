"""The README under test: what it lists is what there is, and what it shows runs."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from copies import Copy, entities
from sqlalchemy import text

from igh_sync_core.cli import generate_optionset_config, sync_dataverse, validate_schema
from igh_sync_core.config import SETTINGS, load_entity_configs
from igh_sync_core.sandbox import health_organisation, serve

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {
    "sync-dataverse": sync_dataverse,
    "validate-schema": validate_schema,
    "generate-optionset-config": generate_optionset_config,
}


def blocks(language: str) -> list[str]:
    """Code blocks of one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shell_lines() -> list[str]:
    """What a reader would type, without comments."""
    lines = [
        line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")
    ]
    return [line.split("  #")[0].strip() for line in lines]


def test_it_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 240


def test_the_settings_table_lists_every_setting_as_the_program_knows_it() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)

    assert rows == [(one.name, one.meaning, one.default_note) for one in SETTINGS]


def test_every_command_line_is_understood_by_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    for line in shell_lines():
        name, *arguments = line.split()
        if name in COMMANDS:
            flags = [one for one in arguments if one.startswith("-")]
            subcommand = [one for one in arguments[:1] if not one.startswith("-")]
            with pytest.raises(SystemExit) as ended:
                COMMANDS[name]([*subcommand, "--help"])
            helped = capsys.readouterr().out
            assert ended.value.code == 0
            assert all(flag in helped for flag in flags), line


def test_flags_named_in_the_text_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sync_dataverse(["--help"])
    helped = capsys.readouterr().out

    for flag in ("--env-file", "--entities-config", "--verify", "--reconcile", "--json"):
        assert flag in README
        assert flag in helped


def test_the_two_commands_are_those_of_ci() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert "pip install . && python -m flows.sync_dataverse --sandbox" in README
    assert "pip install -e '.[test]' && pytest" in README
    assert re.search(r"pip install .*-e '\.\[test\]' && pytest", script)
    assert re.search(r"pip install .*\. && python -m flows\.sync_dataverse --sandbox", script)


def test_deployments_pool_and_flow_are_those_of_prefect_yaml() -> None:
    project = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    names = {deployment["name"] for deployment in project["deployments"]}
    pools = {deployment["work_pool"]["name"] for deployment in project["deployments"]}

    for flow, name in re.findall(r"prefect deployment run ([\w-]+)/([\w-]+)", README):
        assert (flow, name in names) == ("sync-dataverse", True)
    assert set(re.findall(r"(?:work-pool create|--pool) (\w+)", README)) == pools


def test_python_examples_are_python() -> None:
    assert blocks("python")
    for example in blocks("python"):
        ast.parse(example)


def test_the_first_python_example_runs_as_it_stands(tmp_path: Path) -> None:
    program = blocks("python")[0] + "\nprint(succeeded)"
    with serve(health_organisation(200)) as server:
        environment = server.environment() | {"SQLITE_DB_PATH": str(tmp_path / "copy.db")}
        done = subprocess.run(  # noqa: S603 - our own example
            [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_the_entities_example_is_a_valid_file(tmp_path: Path) -> None:
    [example] = re.findall(r'`(\{"entities": \[\{.*?\}\]\})`', README)
    file = tmp_path / "entities.json"
    file.write_text(example, encoding="utf-8")

    assert [entity.name for entity in load_entity_configs(str(file))] == [
        entity["name"] for entity in json.loads(example)["entities"]
    ]


def test_the_query_for_any_time_gives_the_state_of_that_time(database_settings: dict[str, str]) -> None:
    [query] = blocks("sql")
    copy = Copy(health_organisation(2_000), database_settings, entities("vin_candidate"))
    copy.sync_one()
    with copy.database.writing() as conn:
        then = conn.execute(text(query)).mappings().all()

    assert then
    assert all(str(row["valid_from"]) <= "2025-06-30T00:00:00Z" for row in then)
    assert len({row["vin_candidateid"] for row in then}) == len(then)
