"""The folder of an export."""

import os

import pytest

from bisenetv1_plugin.export.folder import move_files


class TestMove:
    """An export is moved completely or not at all."""

    def folders(self, tmp_path):
        for folder, content in (("new", "2"), ("ex", "1")):
            (tmp_path / folder).mkdir()
            for name in ("deploy.yaml", "model.json", "model.pdiparams"):
                (tmp_path / folder / name).write_text(content)
        return tmp_path / "new", tmp_path / "ex"

    def contents(self, folder):
        return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}

    def test_success(self, tmp_path):
        new, ex = self.folders(tmp_path)
        move_files(str(new), str(ex))
        assert set(self.contents(ex).values()) == {"2"} and len(self.contents(ex)) == 3

    @pytest.mark.parametrize("fails_at", range(6))
    def test_failure_restores_files(self, tmp_path, monkeypatch, fails_at):
        new, ex = self.folders(tmp_path)
        rename, calls = os.rename, []

        def limited(source, target):
            calls.append(target)
            if len(calls) == fails_at + 1:
                raise PermissionError(13, "Permission denied", target)
            rename(source, target)

        monkeypatch.setattr(os, "rename", limited)
        with pytest.raises(PermissionError):
            move_files(str(new), str(ex))
        assert set(self.contents(ex).values()) == {"1"} and len(self.contents(ex)) == 3

    def test_existing_folder_is_kept(self, tmp_path):
        new, ex = self.folders(tmp_path)
        (ex / "model.json").unlink()
        (ex / "model.json").mkdir()
        with pytest.raises(IsADirectoryError):
            move_files(str(new), str(ex))
        assert set(self.contents(ex).values()) == {"1"} and (ex / "model.json").is_dir()
