import numpy as np
import pytest

from mgstudy.data.interactions import TEST, TRAIN, VALIDATION
from mgstudy.data.sources.synthetic import Synthetic


def synthetic(**settings) -> Synthetic:
    return Synthetic(Synthetic.Parameters.model_validate({"users": 600, "items": 300, **settings}))


def modalities(noise: float, width: int = 32):
    return {"image": {"width": width, "noise": noise}}


def test_the_same_settings_give_the_same_data_and_another_seed_another() -> None:
    first, second, other = synthetic(), synthetic(), synthetic(seed=1)
    assert np.array_equal(first.interactions().items, second.interactions().items)
    assert np.array_equal(first.features("text", 300), second.features("text", 300))
    assert not np.array_equal(first.interactions().items, other.interactions().items)
    assert not np.array_equal(first.features("text", 300), other.features("text", 300))


def test_a_modality_changes_nothing_but_itself() -> None:
    plain = synthetic()
    more = synthetic(modalities={"image": {"width": 64, "noise": 3.0}, "text": {"width": 32}})
    assert plain.interactions_recipe() == more.interactions_recipe()
    assert plain.feature_recipes()["text"] == more.feature_recipes()["text"]
    assert plain.feature_recipes()["image"] != more.feature_recipes()["image"]
    assert np.array_equal(plain.features("text", 300), more.features("text", 300))


def test_every_modality_has_a_noise_of_its_own() -> None:
    noisy = {"width": 16, "noise": 100.0}
    source = synthetic(modalities={"image": noisy, "text": noisy})
    image, text = (source.features(name, 300).ravel() for name in ("image", "text"))
    assert abs(np.corrcoef(image, text)[0, 1]) < 0.05


def test_interactions_have_the_declared_size_skew_and_splits() -> None:
    drawn = synthetic(users=3000, interactions_per_user=12, cold_item_share=0.1).interactions()
    histories = np.bincount(drawn.users, minlength=3000)
    assert histories.mean() == pytest.approx(12, rel=0.05)
    assert len(np.unique(drawn.users * 300 + drawn.items)) == len(drawn)

    by_split = np.bincount(drawn.splits) / len(drawn)
    assert by_split[TRAIN] > 0.7
    assert by_split[VALIDATION] > 0.08
    assert by_split[TEST] > 0.08

    popularity = np.sort(np.bincount(drawn.items[drawn.splits == TRAIN], minlength=300))
    assert popularity[-30:].sum() > 0.3 * popularity.sum()
    assert 30 <= (popularity == 0).sum() < 45


def test_cold_items_are_held_out_in_both_splits() -> None:
    drawn = synthetic(cold_item_share=0.2).interactions()
    cold = np.setdiff1d(drawn.items, drawn.items[drawn.splits == TRAIN])
    share = [np.isin(drawn.items[drawn.splits == code], cold).mean() for code in (1, 2)]
    assert min(share) > 0.1
    assert share[0] == pytest.approx(share[1], rel=0.3)


def test_features_tell_the_factors_the_less_the_noisier_they_are() -> None:
    explained = []
    for noise in (0.0, 1.0, 4.0):
        source = synthetic(modalities=modalities(noise))
        factors, table = source.item_factors(), source.features("image", 300)
        train, held_out = slice(200), slice(200, 300)
        gram = table[train].T @ table[train] + np.eye(32)
        guess = table[held_out] @ np.linalg.solve(gram, table[train].T @ factors[train])
        residual = ((guess - factors[held_out]) ** 2).sum()
        explained.append(1 - residual / (factors[held_out] ** 2).sum())
    assert explained[0] > 0.99
    assert 0.5 < explained[1] < 0.95
    assert explained[2] < explained[1] - 0.2


@pytest.mark.parametrize(("preference", "low", "high"), [(2.0, 0.65, 1.0), (0.0, 0.44, 0.56)])
def test_features_find_cold_items_their_users_want(
    preference: float, low: float, high: float
) -> None:
    """Score items nobody was trained on by their likeness to a user's history alone."""
    source = synthetic(
        preference=preference,
        popularity_skew=0.0,
        cold_item_share=0.2,
        modalities=modalities(1.0, width=64),
    )
    drawn, table = source.interactions(), source.features("image", 300)
    train = drawn.splits == TRAIN
    profiles = np.zeros((600, 64))
    np.add.at(profiles, drawn.users[train], table[drawn.items[train]])
    scores = profiles @ table.T

    cold = np.setdiff1d(np.arange(300), drawn.items[train])
    wanted = np.zeros((600, 300), dtype=bool)
    wanted[drawn.users[~train], drawn.items[~train]] = True
    users = np.flatnonzero(wanted[:, cold].any(axis=1))
    area = np.mean(
        [
            (scores[u, cold][wanted[u, cold]][:, None] > scores[u, cold][~wanted[u, cold]]).mean()
            for u in users
        ]
    )
    assert low < area < high


def test_two_domains_share_the_first_users_and_every_other_user_is_in_one() -> None:
    source = synthetic(domains=2, overlap=0.15, cold_item_share=0.0)
    drawn = source.interactions()
    assert drawn.domains == ("left", "right")
    assert np.bincount(drawn.item_domains).tolist() == [150, 150]
    domains = drawn.item_domains[drawn.items]
    seen = np.zeros((600, 2), dtype=bool)
    seen[drawn.users, domains] = True
    assert seen[:90].all()
    assert (seen[90:].sum(axis=1) == 1).all()
    assert 0.4 < seen[90:, 0].mean() < 0.6
    held_out = drawn.splits != TRAIN
    for domain in (0, 1):
        within = domains == domain
        users = np.unique(drawn.users[within])
        assert np.array_equal(users, np.unique(drawn.users[within & held_out]))
        assert np.array_equal(users, np.unique(drawn.users[within & ~held_out]))


def test_one_domain_is_what_there_was_before() -> None:
    assert synthetic().interactions_recipe() == synthetic(overlap=0.5).interactions_recipe()
    assert "domains" not in synthetic().interactions_recipe().parameters
    assert synthetic().interactions().item_domains is None


def test_rotation_turns_what_users_look_at_and_not_what_features_show() -> None:
    def preferred(rotation: float) -> float:
        """How much more the factors of users' own items agree with theirs than others' do."""
        source = synthetic(
            domains=2, domain_rotation=rotation, popularity_skew=0.0, cold_item_share=0.0
        )
        drawn = source.interactions()
        users, items = source.user_factors(), source.item_factors()
        own = (users[drawn.users] * items[drawn.items]).sum(axis=1).mean()
        return float(own)

    plain, turned = preferred(0.0), preferred(1.0)
    assert plain > 1
    assert abs(turned) < 0.5 * plain
    same = [synthetic(domains=2, domain_rotation=r).features("text", 300) for r in (0.0, 1.0)]
    assert np.array_equal(*same)


def test_the_latest_are_held_out() -> None:
    drawn = synthetic(times=True, cold_item_share=0.0).interactions()
    assert len(np.unique(drawn.users * 300 + drawn.items)) == len(drawn)
    for user in range(600):
        own = drawn.users == user
        order = np.argsort(drawn.timestamps[own])
        assert np.array_equal(drawn.timestamps[own][order], 86_400 * np.arange(own.sum()))
        splits = drawn.splits[own][order]
        assert np.array_equal(splits, np.sort(splits))  # Training, then validation, then test.


def test_the_more_users_drift_the_more_their_latest_items_tell() -> None:
    def lately(drift: float) -> float:
        """How much nearer the tested items are to the latest of training than to the first."""
        source = synthetic(
            items=800, times=True, drift=drift, interactions_per_user=30, popularity_skew=0.0
        )
        drawn, factors = source.interactions(), source.item_factors()
        nearer = []
        for user in range(600):
            own = drawn.users == user
            items, splits = drawn.items[own], drawn.splits[own]
            known = items[splits == TRAIN]
            likeness = factors[known] @ factors[items[splits == TEST]].mean(axis=0)
            nearer.append(likeness[-5:].mean() - likeness[:5].mean())
        return float(np.mean(nearer))

    # What users like best they take first, so without a walk the first tell more.
    assert lately(0.0) < 0 < lately(0.3)


def test_without_times_it_is_what_there_was_before() -> None:
    recipe = synthetic().interactions_recipe()
    assert "times" not in recipe.parameters
    assert recipe != synthetic(times=True).interactions_recipe()
    assert synthetic().interactions().timestamps is None


def test_each_domain_has_times_of_its_own() -> None:
    drawn = synthetic(domains=2, times=True, cold_item_share=0.0).interactions()
    within = 2 * drawn.users + drawn.item_domains[drawn.items]
    first = np.unique(within)
    earliest = [drawn.timestamps[within == one].min() for one in first]
    assert earliest == [0] * len(first)
