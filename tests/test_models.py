import models
import pytest
from huggingface_hub import HfApi
from models import SHIPPED, ModelSource, card, chosen, offered, parse

from pix2pix.downloads import CARD_BYTES


def test_a_list_names_folders_and_hub_ids_with_or_without_a_revision(tmp_path):
    folder = tmp_path / "run@home"
    folder.mkdir()
    assert parse(f" user/model, user/model@v1.0,{folder},,") == [
        ModelSource("user/model"),
        ModelSource("user/model", "v1.0"),
        ModelSource(str(folder)),
    ]
    assert [str(source) for source in parse("user/model@v1.0, a/b")] == ["user/model@v1.0", "a/b"]


def test_without_the_variable_the_model_is_the_one_beside_the_page(monkeypatch):
    for empty in ("", "  ", ","):
        monkeypatch.setenv("PIX2PIX_MODEL", empty)
        assert offered() == [ModelSource(str(SHIPPED))]
    assert offered()[0].title == "the model that comes with this page"
    assert SHIPPED.parent.name == "space"


def test_only_what_is_offered_can_be_chosen(monkeypatch):
    monkeypatch.setenv("PIX2PIX_MODEL", "a/b, a/b@old")
    assert chosen(None) == chosen("") == chosen("a/b") == ModelSource("a/b")
    assert chosen("a/b@old") == ModelSource("a/b", "old")
    with pytest.raises(LookupError, match="model must be one of a/b, a/b@old, got '/etc'"):
        chosen("/etc")


CARD = """---
license: other
---

<!-- a remark -->

# Faces

It draws. ![grid](https://example.com/grid.png)

## How to use

Type this.

## Scores

| MAE |
|---|
| 12 |

## Recipe

With flags.

## Limits

Few people. <img src="x">
"""


def test_of_a_card_a_visitor_sees_what_the_model_is_its_scores_and_its_limits(tmp_path, hub):
    (tmp_path / "README.md").write_text(CARD, encoding="utf-8")
    expected = "### Faces\n\nIt draws. \n\n#### Scores\n\n| MAE |\n|---|\n| 12 |\n\n#### Limits\n\nFew people. "
    assert card(ModelSource(str(tmp_path))) == expected.rstrip()

    api = HfApi()
    api.create_repo(f"{hub.user}/faces")
    api.upload_file(repo_id=f"{hub.user}/faces", path_or_fileobj=CARD.encode(), path_in_repo="README.md")
    assert card(ModelSource(f"{hub.user}/faces")) == expected.rstrip()


def test_a_card_that_cannot_be_read_is_a_sentence(tmp_path, hub):
    for source in (ModelSource(str(tmp_path)), ModelSource(f"{hub.user}/nothing"), ModelSource("no such/id/at all")):
        assert card(source) == f"There is no card for {source}, or it cannot be reached now."
    assert models.card(ModelSource(str(SHIPPED / "nowhere"))).startswith("There is no card for")


@pytest.mark.parametrize("extra", [0, 1])
def test_a_card_that_is_too_long_is_not_fetched(hub, extra):
    text = "# Faces\n" + "x" * (CARD_BYTES - 8 + extra)
    HfApi().create_repo(f"{hub.user}/faces")
    HfApi().upload_file(repo_id=f"{hub.user}/faces", path_or_fileobj=text.encode(), path_in_repo="README.md")
    hub.requests.clear()
    shown = card(ModelSource(f"{hub.user}/faces"))
    if extra:
        assert shown == f"There is no card for {hub.user}/faces, or it cannot be reached now."
        assert {line.method for line in hub.requests} == {"HEAD"}
    else:
        assert shown == "##" + text


def test_a_card_that_arrives_damaged_is_not_shown(hub):
    HfApi().create_repo(f"{hub.user}/faces")
    HfApi().upload_file(repo_id=f"{hub.user}/faces", path_or_fileobj=CARD.encode(), path_in_repo="README.md")
    hub.fail_next(1000, None, path_contains="README.md", method="GET", how="corrupt")
    assert card(ModelSource(f"{hub.user}/faces")).startswith("There is no card for")
    hub.faults.clear()
    assert "It draws." in card(ModelSource(f"{hub.user}/faces"))


@pytest.mark.parametrize("opening", ["<!--", "![", "![](", "<img", "---\n", "## Recipe\n", "<!--![](<img"])
def test_a_card_of_nothing_but_openings_is_read_all_the_same(tmp_path, opening):
    text = opening * (CARD_BYTES // len(opening))
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    shown = card(ModelSource(str(tmp_path)))  # it would take hours if each opening were looked at to the end of the card
    assert len(shown) <= 2 * len(text)
    assert "<!--" not in shown
