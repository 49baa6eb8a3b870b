import pytest

import spon
from spon.files import output_folder, replacing


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail_half_way():
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert (tmp_path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_files_and_folders_are_replaced(tmp_path):
    for text in ("one", "two"):
        with replacing(tmp_path / "f") as temporary:
            temporary.write_text(text)
        with replacing(tmp_path / "d") as temporary:
            temporary.mkdir()
            (temporary / text).touch()
    assert (tmp_path / "f").read_text() == "two"
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["two"]


def test_bad_folders_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(spon.SponError, match=r"cannot write into the folder .*file: it is a file"):
        output_folder(tmp_path / "file")
    with pytest.raises(spon.SponError, match=r"cannot write into the folder .*: Not a directory"):
        output_folder(tmp_path / "file" / "inner")
    assert output_folder(tmp_path / "new" / "deep").is_dir()
