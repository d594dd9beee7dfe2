from rendering.photographs import split_of


def test_hash_assigns_names_to_splits_by_their_shares():
    splits = [split_of(f"package/{number}.jpg") for number in range(2000)]
    assert 0.82 < splits.count("train") / 2000 < 0.88
    assert 0.035 < splits.count("validation") / 2000 < 0.065
    assert 0.08 < splits.count("test") / 2000 < 0.12
