"""Signatures: OpenSSL agrees, and nobody else's bundle passes for one's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from policies import export

from crl.cli import main
from crl.deploy.bundle import Options
from crl.deploy.manifest import BundleError
from crl.deploy.runtime import load
from crl.errors import UserError

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")


def openssl(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)


def keys(folder: Path, algorithm: str = "ed25519") -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / "key.pem", folder / "public.pem"
    for made in (openssl("genpkey", "-algorithm", algorithm, "-out", private),
                 openssl("pkey", "-in", private, "-pubout", "-out", public)):
        assert made.returncode == 0, made.stderr
    return private, public


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A bundle, and the key pair that it is signed with."""
    root = tmp_path_factory.mktemp("signed")
    private, public = keys(root)
    return export("sac", root / "bundle", Options(rate_hz=10, sign=private)), private, public


def test_openssl_verifies_what_we_sign(signed: tuple[Path, Path, Path]) -> None:
    bundle, _, public = signed
    check = ("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-sigfile",
             bundle / "manifest.sig", "-in")
    assert openssl(*check, bundle / "manifest.json").returncode == 0
    assert openssl(*check, bundle / "manifest.sha256").returncode != 0  # control


def test_we_verify_what_openssl_signs(sac_bundle: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    bundle = shutil.copytree(sac_bundle, tmp_path / "bundle")
    done = openssl("pkeyutl", "-sign", "-inkey", private, "-rawin", "-in",
                   bundle / "manifest.json", "-out", bundle / "manifest.sig")
    assert done.returncode == 0, done.stderr
    assert load(bundle, key=public).manifest["signature"] is None  # what it says is not asked


def test_only_bundles_of_that_key_are_opened(signed: tuple[Path, Path, Path], sac_bundle: Path,
                                             tmp_path: Path) -> None:
    bundle, _, public = signed
    assert load(bundle, key=public).manifest["signature"]["algorithm"] == "ed25519"
    load(bundle)  # nobody asked who signed it
    _, others = keys(tmp_path)
    with pytest.raises(BundleError, match="not signed by the key of"):
        load(bundle, key=others)
    with pytest.raises(BundleError, match=r"manifest\.sig cannot be read"):
        load(sac_bundle, key=public)
    edited = shutil.copytree(bundle, tmp_path / "edited")
    signature = (edited / "manifest.sig").read_bytes()
    for wrong in (signature[:-1], bytes(64), signature[::-1], b"", signature + b"x"):
        (edited / "manifest.sig").write_bytes(wrong)
        with pytest.raises(BundleError, match=r"not signed|larger than"):
            load(edited, key=public)


def test_another_bundle_does_not_pass_with_a_true_signature(
        signed: tuple[Path, Path, Path], sac_bundle: Path, tmp_path: Path) -> None:
    bundle, _, public = signed
    forged = shutil.copytree(sac_bundle, tmp_path / "forged")
    shutil.copy(bundle / "manifest.sig", forged)
    with pytest.raises(BundleError, match="not signed by the key of"):
        load(forged, key=public)


def test_the_same_run_and_key_give_the_same_bytes(signed: tuple[Path, Path, Path],
                                                  tmp_path: Path) -> None:
    bundle, private, _ = signed
    again = export("sac", tmp_path / "again", Options(rate_hz=10, sign=private))
    for file in bundle.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_what_is_no_key_is_said(signed: tuple[Path, Path, Path], tmp_path: Path,
                                capsys: pytest.CaptureFixture[str]) -> None:
    bundle, private, public = signed
    rsa, rsa_public = keys(tmp_path / "rsa", "rsa")
    (tmp_path / "empty").touch()
    for wrong in (public, rsa, tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(UserError, match=r"private ed25519 key|cannot be read"):
            export("sac", tmp_path / "bundle", Options(rate_hz=10, sign=wrong))
    assert not (tmp_path / "bundle").exists()
    for wrong in (private, rsa_public, tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(BundleError, match=r"public ed25519 key|cannot be read"):
            load(bundle, key=wrong)
    with pytest.raises(SystemExit, match="2"):
        main(["drive", str(bundle), "--key", str(rsa_public)])
    assert "is no public ed25519 key" in capsys.readouterr().err
