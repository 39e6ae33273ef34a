"""config.yaml and conf.d: what the merge comes to, and which file a mistake is in."""

import os
from pathlib import Path

import pytest
from lab.configuration import Lab

from gatewayd.config import ConfigErrors, load
from gatewayd.config.changes import Changes, read_again
from gatewayd.config.document import MISTAKES_LIMIT, SIZE_LIMIT_BYTES, VALUES_LIMIT
from gatewayd.config.fragments import FILES_LIMIT, NAMES_SHOWN

BASE = """
mqtt: {host: broker, username: barn, password_file: password}
defaults: {payload: standard, link: {baud: 9600}}
devices:
  - {name: pump-1, app_id: pump, version: "1.0.0", link: {uart: /dev/1}}
"""


def device(name: str, port: str) -> str:
    return f'devices: [{{name: {name}, app_id: pump, version: "1.0.0", link: {{uart: {port}}}}}]\n'


class Tree(Lab):
    """A lab with a conf.d."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.file.write_text(BASE)
        self.fragments = folder / "conf.d"
        self.fragments.mkdir()

    def add(self, name: str, text: str) -> Path:
        path = self.fragments / name
        path.write_text(text)
        return path

    def told(self) -> list[str]:
        with pytest.raises(ConfigErrors) as caught:
            load(self.file)
        assert caught.value.code == "bad_configuration"
        return [self.plain(str(mistake)) for mistake in caught.value.mistakes]

    def warned(self) -> list[str]:
        return [text for text in map(self.plain, map(str, load(self.file).warnings)) if "conf.d" in text]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_without_conf_d_the_file_is_all(tree: Tree) -> None:
    tree.fragments.rmdir()
    assert load(tree.file).files == (tree.file,)


def test_mappings_merge_and_the_later_value_wins(tree: Tree) -> None:
    tree.add("20-b.yaml", "mqtt: {client_id: b}\ndefaults: {link: {dtr: true}}\n")
    tree.add("10-a.yaml", "mqtt: {host: other, client_id: a}\n")
    settings = load(tree.file)
    assert (settings.mqtt.host, settings.mqtt.client_id, settings.mqtt.username) == ("other", "b", "barn")
    link = settings.devices[0].link
    assert (link.baud, link.dtr) == (9600, True)  # type: ignore[union-attr]  # a serial port's
    assert settings.files == (tree.file, tree.fragments / "10-a.yaml", tree.fragments / "20-b.yaml")


def test_the_order_is_that_of_bytes(tree: Tree) -> None:
    for name in ("é", "b", "B", "9", "10"):
        tree.add(f"{name}.yaml", f"mqtt: {{client_id: {name!r}}}\n")
    assert [file.stem for file in load(tree.file).files[1:]] == ["10", "9", "B", "b", "é"]
    assert load(tree.file).mqtt.client_id == "é"


def test_other_lists_are_replaced_with_all_that_was_in_them(tree: Tree) -> None:
    pins = [f"sha256:{digit * 64}" for digit in "abc"]
    tree.add("1.yaml", f"mqtt: {{tls: {{pins: [{pins[0]!r}, {pins[1]!r}]}}}}\n")
    tree.add("2.yaml", f"mqtt: {{tls: {{pins: [{pins[2]!r}]}}}}\n")
    tls = load(tree.file).mqtt.tls
    assert tls is not None
    assert tls.pins == (pins[2],)
    tree.add("3.yaml", "mqtt: {tls: null}\n")
    assert load(tree.file).mqtt.tls is None


def test_devices_are_put_one_after_the_other(tree: Tree) -> None:
    tree.add("1.yaml", device("pump-2", "/dev/2"))
    tree.add("2.yaml", device("pump-3", "/dev/3"))
    assert [one.name for one in load(tree.file).devices] == ["pump-1", "pump-2", "pump-3"]


def test_all_of_it_may_stand_in_fragments(tree: Tree) -> None:
    tree.file.write_text("gateway: {id: barn}\n")
    tree.add("1.yaml", "mqtt: {host: broker}\ndefaults: {payload: standard}\n")
    tree.add("2.yaml", device("pump-1", "/dev/1"))
    assert load(tree.file).devices[0].name == "pump-1"


def test_a_fragment_of_comments_says_nothing(tree: Tree) -> None:
    tree.add("1.yaml", "# mqtt: {host: other}\n")
    assert load(tree.file).mqtt.host == "broker"


def test_paths_start_at_the_folder_of_config_yaml(tree: Tree) -> None:
    tree.add("1.yaml", "keys: {pump: {verify_key_file: verify.key.bin}}\n")
    assert load(tree.file).key_files["pump"].verify_key_file == tree.folder / "verify.key.bin"


def test_clashes_name_both_files(tree: Tree) -> None:
    tree.add("1.yaml", "\n" + device("pump-1", "/dev/1"))
    name, port = tree.told()
    assert name.startswith("conf.d/1.yaml:2: devices[1].name: pump-1 is also the name of devices[0] (")
    assert "devices[1].link.uart: /dev/1 is also the port of devices[0] (" in port
    assert "(config.yaml:5). Give each device" in name
    assert "(config.yaml:5). Give each device" in port


def test_two_at_one_address_are_told_with_both_files(tree: Tree) -> None:
    for number in (1, 2):
        text = (
            f'- name: tag-{number}\n  app_id: tag\n  version: "1.0.0"\n  link: {{ble: "C0:FF:EE:00:00:01"}}\n'
        )
        tree.add(f"{number}.yaml", f"devices:\n{text}")
    (told,) = tree.told()
    assert told.startswith("conf.d/2.yaml:5: devices[2].link.ble: devices[1] has the same Bluetooth target")
    assert "(conf.d/1.yaml:5)" in told


def test_each_mistake_names_the_file_it_is_in(tree: Tree) -> None:
    tree.file.write_text(BASE + "kees: {}\n")
    tree.add("1.yaml", "mqtt:\n  port: 0\n")
    tree.add("2.yaml", "devices:\n  - {name: pump-2, app_id: pump, link: {uart: tty}}\n")
    assert [text.split(" ")[0:2] for text in tree.told()] == [
        ["config.yaml:6:", "kees:"],
        ["conf.d/1.yaml:2:", "mqtt.port:"],
        ["conf.d/2.yaml:2:", "devices[1].version:"],
        ["conf.d/2.yaml:2:", "devices[1].link.uart:"],
    ]


def test_what_a_fragment_replaces_is_no_mistake_any_more(tree: Tree) -> None:
    tree.file.write_text(
        BASE.replace("host: broker", "host: broker, connect: {every: 1s, wait: 5m, more: 1}")
    )
    assert len(tree.told()) == 2
    tree.add("1.yaml", "mqtt: {connect: always}\n")
    assert load(tree.file).mqtt.connect == "always"


def test_syntax_is_told_of_all_files_at_once(tree: Tree) -> None:
    tree.file.write_text("mqtt: [\n")
    tree.add("1.yaml", "a: &x 1\n")
    tree.add("2.yaml", "a: 1\na: 2\n")
    assert [text.split(":")[0] for text in tree.told()] == ["config.yaml", "conf.d/1.yaml", "conf.d/2.yaml"]


@pytest.mark.parametrize("text", ["[]\n", "text\n", "null\n"])
def test_a_fragment_is_a_mapping(tree: Tree, text: str) -> None:
    tree.add("1.yaml", text)
    assert tree.told() == ["conf.d/1.yaml: expected a mapping with keys such as devices."]


@pytest.mark.parametrize("base", [BASE, BASE.partition("devices:")[0] + "devices: {}\n"])
def test_devices_that_are_no_list_are_told(tree: Tree, base: str) -> None:
    tree.file.write_text(base)
    tree.add("1.yaml", "devices: {}\n" if base == BASE else device("pump-2", "/dev/2"))
    (told,) = tree.told()
    assert told.startswith(
        "conf.d/1.yaml:1: devices: expected" if base == BASE else "config.yaml:4: devices:"
    )


def test_reload_reads_all_of_them_again(tree: Tree) -> None:
    old = load(tree.file)
    tree.add("1.yaml", device("pump-2", "/dev/2"))
    new = read_again(old)
    assert Changes.between(old, new).added == ("pump-2",)
    tree.add("2.yaml", device("pump-2", "/dev/3"))
    with pytest.raises(ConfigErrors, match=r"conf\.d/2\.yaml:1: devices\[2\]\.name: pump-2 is also"):
        read_again(new)


# -- the folder


def test_what_is_left_behind_is_passed_over_and_the_rest_warned_about(tree: Tree) -> None:
    for name in (".x.yaml", "x.yaml~", "x.yaml.dpkg-old", "y.dpkg-dist", ".x.yaml.swp"):
        tree.add(name, "nonsense: true\n")
    for name in ("x.yml", "README", "new\nline.yaml"):
        tree.add(name, "nonsense: true\n")
    (warned,) = tree.warned()
    assert warned.startswith(
        "conf.d: only files named *.yaml are read; ignored: 'README', 'new\\nline.yaml', 'x.yml'. "
    )
    assert load(tree.file).files == (tree.file,)


def test_a_name_that_is_no_text_is_named_all_the_same(tree: Tree) -> None:
    (Path(os.fsdecode(os.fsencode(tree.fragments) + b"/\xff.yaml"))).write_text("nonsense: true\n")
    (warned,) = tree.warned()
    assert "are read; ignored: '\\udcff.yaml'. " in warned


def test_of_many_files_that_do_not_count_a_few_are_named(tree: Tree) -> None:
    for number in range(NAMES_SHOWN + 2):
        tree.add(f"{number}.txt", "")
    (warned,) = tree.warned()
    assert "'3.txt', '4.txt' and 2 more. " in warned


def test_conf_d_must_be_a_folder(tree: Tree) -> None:
    tree.fragments.rmdir()
    tree.fragments.write_text("")
    assert tree.told() == [
        "conf.d: cannot be read: Not a directory. It holds part of the configuration: check its permissions."
    ]


def test_conf_d_that_cannot_be_listed_is_a_mistake(tree: Tree) -> None:
    tree.fragments.rmdir()
    tree.fragments.symlink_to("conf.d")  # permissions do not stop root, a loop does
    (told,) = tree.told()
    assert told.startswith("conf.d: cannot be read: Too many levels of symbolic links.")


def test_links_are_followed_and_dead_ones_are_mistakes(tree: Tree) -> None:
    (tree.folder / "elsewhere").write_text("mqtt: {host: other}\n")
    (tree.fragments / "1.yaml").symlink_to("../elsewhere")
    assert load(tree.file).mqtt.host == "other"
    (tree.fragments / "2.yaml").symlink_to("../nowhere")
    (told,) = tree.told()
    assert told.startswith("conf.d/2.yaml: cannot be read: No such file or directory.")


def test_a_named_pipe_is_not_waited_for(tree: Tree) -> None:
    os.mkfifo(tree.fragments / "1.yaml")
    assert tree.told() == ["conf.d/1.yaml: is not a regular file. Keep only regular files in conf.d."]


@pytest.mark.attack("a configuration or conf.d that everybody may write", "bad_configuration")
def test_what_everybody_can_write_is_refused(tree: Tree) -> None:
    tree.add("1.yaml", "mqtt: {host: other}\n").chmod(0o666)
    tree.fragments.chmod(0o1777)
    tree.file.chmod(0o646)
    told = tree.told()
    assert [text.split(" (mode ")[0] for text in told] == [
        f"{name}: is writable by everybody" for name in ("conf.d", "config.yaml", "conf.d/1.yaml")
    ]
    assert "(mode 0666). Run: chmod o-w " in told[2]


# -- limits hold for all files together


def test_the_number_of_files_is_limited(tree: Tree) -> None:
    for number in range(FILES_LIMIT):
        tree.add(f"{number}.yaml", "")
    assert len(load(tree.file).files) == FILES_LIMIT + 1
    tree.add("more.yaml", "")
    assert tree.told() == [f"conf.d: holds more than {FILES_LIMIT} files. Join some of them."]


@pytest.mark.attack("1 MiB in several fragments", "bad_configuration")
def test_the_size_of_all_is_limited(tree: Tree) -> None:
    half = "#" * (SIZE_LIMIT_BYTES // 2)
    tree.add("1.yaml", half)
    tree.add("2.yaml", half)
    tree.add("3.yaml", "a: &b c\n")  # not looked at any more
    assert tree.told() == ["conf.d/2.yaml: brings the configuration to more than 1048576 bytes."]


def test_the_number_of_values_in_all_is_limited(tree: Tree) -> None:
    for name in "ab":
        half = "".join(f"{name}{number}: x\n" for number in range(VALUES_LIMIT // 2))
        tree.add(f"{name}.yaml", half)
    assert tree.told() == ["conf.d/b.yaml: brings the configuration to more than 50000 values."]


def test_the_number_of_mistakes_in_all_is_limited(tree: Tree) -> None:
    for number in range(3):
        tree.add(f"{number}.yaml", "".join(f"a{one}:\n" for one in range(50)))
    assert len(tree.told()) == MISTAKES_LIMIT + 1
