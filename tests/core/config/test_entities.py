import json
from pathlib import Path

import pytest

from igh_sync_core.config import EntityConfig, load_entities, load_entity_configs, load_optionsets_config
from igh_sync_core.errors import ConfigError


class TestEntityFiles:
    def write(self, folder: Path, content: object) -> str:
        path = folder / "entities.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def test_the_package_brings_its_selection(self) -> None:
        configs = load_entity_configs()

        assert len(configs) == 26
        assert configs[0] == EntityConfig("vin_candidate", "vin_candidates")
        assert {entity.name for entity in configs if entity.filtered} >= {"account", "contact"}

    def test_the_plain_list_holds_the_same_tables(self) -> None:
        assert load_entities()[0] == {
            "name": "vin_candidate",
            "api_name": "vin_candidates",
            "filtered": False,
            "description": "",
        }
        assert len(load_entities()) == 26

    def test_every_field_of_the_file_arrives(self, tmp_path: Path) -> None:
        entry = {"name": "a", "api_name": "as", "description": "d", "strategy": "snapshot", "ranges": 4}
        filtered = {"name": "b", "api_name": "bs", "filtered": True, "strategy": "related", "ranges": 1}

        assert load_entity_configs(self.write(tmp_path, {"entities": [entry, filtered]})) == [
            EntityConfig("a", "as", description="d", strategy="snapshot", ranges=4),
            EntityConfig("b", "bs", filtered=True, strategy="related"),
        ]

    def test_a_filtered_table_leaves_no_choice_of_how_it_is_read(self, tmp_path: Path) -> None:
        entry = {"name": "a", "api_name": "as", "filtered": True, "strategy": "snapshot", "ranges": 4}

        with pytest.raises(ConfigError) as caught:
            load_entity_configs(self.write(tmp_path, {"entities": [entry]}))

        assert [fault.split(": ", 1)[1] for fault in caught.value.faults] == [
            'entity 1 (a): "strategy": "snapshot" cannot stand beside "filtered": true; drop one of the two',
            'entity 1 (a): "ranges" cannot stand beside "filtered": true; drop one of the two',
        ]

    def test_all_faults_come_at_once_with_their_positions(self, tmp_path: Path) -> None:
        entries = [
            {"name": "a", "api_name": "as"},
            {"name": "b"},
            {"name": "c", "api_name": 7, "filtered": "yes", "extra": 1},
            "d",
            {"name": "a", "api_name": "es; drop", "strategy": "guess"},
            {"name": "f", "api_name": "fs", "ranges": 17},
            {"name": "g", "api_name": "gs", "ranges": True},
        ]

        with pytest.raises(ConfigError) as caught:
            load_entity_configs(self.write(tmp_path, {"entities": entries, "more": []}))

        assert [fault.split(": ", 1)[1] for fault in caught.value.faults] == [
            'unknown field "more"',
            'entity 2 (b): "api_name" is missing',
            'entity 3 (c): "api_name" must be text',
            'entity 3 (c): "filtered" must be true or false',
            'entity 3 (c): unknown field "extra"',
            "entity 4: must be an object",
            'entity 5 (a): "api_name" must be a name of letters, digits and underscores',
            'entity 5 (a): "strategy" must be one of delta, modifiedon, snapshot, related',
            'entity 6 (f): "ranges" must be a whole number from 1 to 16',
            'entity 7 (g): "ranges" must be a whole number from 1 to 16',
            '"name" a is given 2 times',
        ]

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"entities": []}', '{"entities": {}}'])
    def test_a_file_of_another_shape_is_refused(self, tmp_path: Path, content: str) -> None:
        with pytest.raises(ConfigError, match=r"entities\.json: (is no JSON|needs a list)"):
            load_entity_configs(self.write(tmp_path, content))

    def test_a_missing_file_is_named(self) -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.json: cannot be read"):
            load_entity_configs("nowhere.json")

    def test_option_sets_are_a_map_of_lists(self, tmp_path: Path) -> None:
        assert load_optionsets_config() == {}
        assert load_optionsets_config(self.write(tmp_path, {"a": ["x", "y"]})) == {"a": ["x", "y"]}
        with pytest.raises(ConfigError, match='"b" needs a list'):
            load_optionsets_config(self.write(tmp_path, {"a": ["x"], "b": "y"}))
        with pytest.raises(ConfigError, match="needs an object"):
            load_optionsets_config(self.write(tmp_path, []))
