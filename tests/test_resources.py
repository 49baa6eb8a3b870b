import pytest

import spon


def test_bundled_files_are_found_and_others_refused(tmp_path):
    assert spon.find_mesh("plate.geo").is_file()
    assert spon.find_problem("plate.py").is_file()
    with pytest.raises(
        spon.SponError, match=r"no meshes file 'x\.geo' comes with spon; there are: .*plate\.geo"
    ):
        spon.find_mesh("x.geo")
    with pytest.raises(spon.SponError, match=r"no such problem file: .*absent\.py"):
        spon.load_problem(tmp_path / "absent.py")


def test_a_problem_file_is_loaded_by_its_path(tmp_path):
    (tmp_path / "mine.py").write_text("ANSWER = 42\n")
    assert spon.load_problem(tmp_path / "mine.py").ANSWER == 42
