"""Login data of HTTP, with the examples of the standards."""

from dataclasses import replace

from protocols.http_login import Login, basic_header, digest_answer, digest_challenge, is_basic

RFC_2617 = (
    'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
    'uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b", '
    'response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)
MUFASA = Login("Mufasa", "Circle Of Life")


def test_basic_of_the_specification_of_the_pump_controller():
    admin = Login("admin", "admin")
    assert basic_header(admin) == "Basic YWRtaW46YWRtaW4="
    assert is_basic("basic  YWRtaW46YWRtaW4=", admin)
    for wrong in ("", "Basic", "Basic YWRtaW46YWRtaW5=", "Bearer YWRtaW46YWRtaW4=", "Basic é"):
        assert not is_basic(wrong, admin)


def test_digest_of_rfc_2617_proves_the_password_of_its_user_for_its_method_and_path():
    answer = digest_answer(RFC_2617)
    assert answer.proves(MUFASA, "GET")
    assert not answer.proves(MUFASA, "POST")
    assert not answer.proves(Login("Mufasa", "circle of life"), "GET")
    assert not answer.proves(Login("Scar", "Circle Of Life"), "GET")
    for change in ({"uri": "/"}, {"nonce": "0"}, {"count": "00000002"}, {"client_nonce": "1"}, {"user": "Scar"}):
        assert not replace(answer, **change).proves(MUFASA, "GET")


def test_digest_without_qop_is_that_of_rfc_2069():
    answer = digest_answer(
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'uri="/dir/index.html", response="670fd8c2df070c60b045671b8b24ff02"'
    )
    assert answer.proves(MUFASA, "GET")


def test_what_is_no_digest_is_none():
    for text in ("", "Digest", 'Digest username="a"', RFC_2617.replace("Digest", "Basic"), "Digest " + "," * 10_000):
        assert digest_answer(text) is None


def test_challenge_and_password_are_written_with_care():
    assert digest_challenge("pumps", "abc", stale=True).endswith('nonce="abc", stale=true')
    assert "Circle" not in repr(MUFASA)
