from pathlib import Path

import pytest
from pairs import write_pair
from test_config import faults_of

from igh_sync_core.config.certificate import read_certificate


class TestCertificate:
    @pytest.mark.parametrize("pfx", [False, True])
    @pytest.mark.parametrize("password", [None, b"open sesame"])
    def test_both_file_kinds_give_one_form(self, tmp_path: Path, *, pfx: bool, password: bytes | None) -> None:
        path = str(write_pair(tmp_path, pfx=pfx, password=password))

        pair = read_certificate(path, password.decode() if password else None)

        assert pair.private_key.startswith("-----BEGIN PRIVATE KEY-----")
        assert pair.public_certificate.startswith("-----BEGIN CERTIFICATE-----")
        assert pair.private_key not in repr(pair)
        assert (
            faults_of(client_secret="", certificate_file=path, certificate_password=password and password.decode())
            == ()
        )

    @pytest.mark.parametrize("pfx", [False, True])
    def test_a_wrong_password_is_a_fault_that_does_not_show_it(self, tmp_path: Path, *, pfx: bool) -> None:
        path = str(write_pair(tmp_path, pfx=pfx, password=b"right"))

        (found,) = faults_of(client_secret="", certificate_file=path, certificate_password="wrong-guess")

        assert "no usable private key" in found
        assert "wrong-guess" not in found

    def test_key_and_certificate_must_belong_together(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no certificate for its private key"):
            read_certificate(str(write_pair(tmp_path, other_key=True)))

    def test_a_missing_file_is_a_fault(self) -> None:
        (found,) = faults_of(client_secret="", certificate_file="nowhere.pem")

        assert "nowhere.pem cannot be read" in found

    def test_pem_text_stands_for_its_file_and_is_never_shown(self, tmp_path: Path) -> None:
        text = write_pair(tmp_path).read_text()
        broken = text.replace("BEGIN CERTIFICATE", "BEGIN NOTHING")

        (found,) = faults_of(client_secret="", certificate_file=broken)

        assert faults_of(client_secret="", certificate_file=text) == ()
        assert read_certificate(text) == read_certificate(str(tmp_path / "login.pem"))
        assert found.startswith("DATAVERSE_CERTIFICATE_FILE (PEM text) holds no")
