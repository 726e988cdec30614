# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Built-ins say what the documents they come from say: paths, modes, accounts, units, times, retention, literally."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Profile, Retention, Tier
from ansible_collections.tradekeep.ops.plugins.module_utils.core.deploy_settings import CollisionPolicy
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import KIND_NAMES
from ansible_collections.tradekeep.ops.plugins.module_utils.core.patterns import (
    Classified,
    classify,
    expected_files,
    templates,
    tree_directories,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import (
    built_in_names,
    resolve_application,
    resolve_mapping,
    resolve_profile,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile_schema import KIND_NAMES as ACCEPTED_KINDS

# path of a file: mode of a new one, component
FILES = {
    "kalshi": {
        "credentials/kalshi/demo/kalshi.pem": (0o600, "credentials"),
        "credentials/kalshi/prod/kalshi-auth.txt": (0o600, "credentials"),
        "credentials/other_apis/key.json": (0o600, "credentials"),
        "databases/accounts/kalshi/demo/fills.db": (0o600, "databases"),
        "databases/accounts/kalshi/demo/positions.db": (0o600, "databases"),
        "databases/accounts/kalshi/demo/settlements.db": (0o600, "databases"),
        "databases/accounts/kalshi/prod/fills.db": (0o600, "databases"),
        "databases/trade_history/trades.db": (0o600, "databases"),
        "databases/price_history/btc_price_history.db": (0o600, "databases"),
        "preferences/trading/trade_preferences.json": (0o644, "preferences"),
        "preferences/trading/auto_entry_settings.json": (0o644, "preferences"),
        "preferences/trading/auto_stop_settings.json": (0o644, "preferences"),
        "preferences/system/system_preferences.json": (0o644, "preferences"),
        "preferences/ui/ui_preferences.json": (0o644, "preferences"),
        "state/account_mode.json": (0o644, "state"),
        "state/system_state.json": (0o644, "state"),
    },
    "paper_bot": {
        "paper_trading_outputs/5m/logs/5m/signals/date=2026-01-01/asset=BTCUSDT/signals.jsonl.gz": (
            0o640,
            "paper_trading_outputs",
        ),
        "paper_trading_outputs/1h/sheets_fallback/a.csv": (0o640, "paper_trading_outputs"),
        "logs/bot.log": (0o640, "logs"),
    },
    "crypto_bot": {
        "data/portfolio.json": (0o640, "data"),
        "data/portfolio.json.bak": (0o640, "data"),
        "data/performance/performance_config.json": (0o640, "data"),
        "data/performance/performance_config.json.bak": (0o640, "data"),
        "data/performance/portfolio_snapshots.json": (0o640, "data"),
        "data/cache/bot_startup.json": (0o640, "data"),
        "data/historical/BTC-EUR_hour_180d.parquet": (0o640, "data"),
        "data/backtest_results/performance_report.md": (0o640, "data"),
        "logs/supervisor.log": (0o640, "logs"),
        "logs/daily_report_20241228.txt": (0o640, "logs"),
        "reports/daily_health/a.json": (0o640, "reports"),
        "dashboard/data/backtest_results/latest_backtest.json": (0o640, "dashboard"),
    },
    "trade_agent": {
        "data/trades_history.json": (0o640, "data"),
        "data/pending_orders.json": (0o640, "data"),
        "data/system_recommended_symbols.json": (0o640, "data"),
        "data/archive/trades_history.json": (0o640, "data"),
        "data/app.db": (0o600, "data"),
        "data/app.db-wal": (0o600, "data"),
        "paper_trading/unified_service/orders.json": (0o640, "paper_trading"),
        "paper_trading/unified_service/holdings.json": (0o640, "paper_trading"),
        "paper_trading/unified_service/transactions.json": (0o640, "paper_trading"),
    },
    "v6": {
        "data/lake/position_updates/_delta_log/00000000000000000000.json": (0o640, "lake"),
        "data/lake/option_snapshots/part-0.parquet": (0o640, "lake"),
        "data/lake/collection_queue.db": (0o640, "lake"),
        "config/production.yaml": (0o640, "configuration"),
        ".env": (0o600, "environment"),
        "logs/v6.log": (0o640, "logs"),
    },
    "freqtrade": {
        "tradesv3.sqlite": (0o600, "databases"),
        "tradesv3.dryrun.sqlite": (0o600, "databases"),
        "config.json": (0o600, "configuration"),
        "user_data/config.json": (0o600, "user_data"),
        "user_data/config-private.json": (0o600, "user_data"),
        "user_data/tradesv3.sqlite": (0o600, "user_data"),
        "user_data/tradesv3.sqlite-wal": (0o600, "user_data"),
        "user_data/strategies/mine.py": (0o640, "user_data"),
    },
}
DIRECTORIES = {
    "kalshi": {
        **dict.fromkeys(("credentials", "credentials/kalshi/demo", "credentials/kalshi/prod"), 0o700),
        **dict.fromkeys(("credentials/other_apis", "databases", "databases/accounts/kalshi/demo"), 0o700),
        **dict.fromkeys(("databases/accounts/kalshi/prod", "databases/trade_history"), 0o700),
        "databases/price_history": 0o700,
        **dict.fromkeys(("preferences/trading", "preferences/system", "preferences/ui", "state"), 0o755),
    },
    "paper_bot": dict.fromkeys(("paper_trading_outputs", "paper_trading_outputs/24h", "logs"), 0o755),
    "crypto_bot": {
        **dict.fromkeys(("data", "data/performance", "data/cache", "data/historical"), 0o750),
        **dict.fromkeys(("data/backtest_results", "dashboard/data/backtest_results", "reports"), 0o750),
        **dict.fromkeys(("reports/interval_optimization", "reports/weekly_validation"), 0o750),
        "logs": 0o755,
    },
    "trade_agent": dict.fromkeys(("data", "data/archive", "paper_trading/unified_service"), 0o750),
    "v6": {
        **dict.fromkeys(("data/lake/position_updates", "data/lake/option_snapshots"), 0o750),
        **dict.fromkeys(("data/lake/option_legs", "data/lake/strategy_executions", "config", "logs"), 0o750),
    },
    "freqtrade": dict.fromkeys(("user_data/strategies", "user_data/hyperopt_results"), 0o755),
}
# what deploys leave alone wherever it lies in the checkout, beyond the components
PRESERVED = {
    "kalshi": ("*.log", "*.db", "*.db-wal", "*.db-shm", ".env"),
    "paper_bot": ("*.jsonl", "*.jsonl.gz", "*.csv", "*.log", ".env", "*.db", "*.db-wal", "*.db-shm", "*.db-journal"),
    "crypto_bot": (".env", "*.log"),
    "trade_agent": (".env", "*.env", "*.log"),
    "v6": ("backups/**",),
    "freqtrade": ("tradesv3*.sqlite", "tradesv3*.sqlite-*", ".env"),
}
# root, owner (none where its document runs it as whoever logs in), prefix of archives
PLACES = {
    "kalshi": ("/opt/trading_system/user_data", "trading_user", "user_data"),
    "paper_bot": ("/opt/paper_bot", "", "paper_bot"),
    "crypto_bot": ("/opt/AI-crypto-bot", "crypto_bot", "crypto_bot"),
    "trade_agent": ("/opt/trade_agent", "trade_agent", "trade_agent"),
    "v6": ("/opt/v6-trading", "trading", "backup"),
    "freqtrade": ("/opt/freqtrade", "freqtrade", "freqtrade"),
}
SECRET = {
    "kalshi": {"credentials/kalshi/demo/kalshi.pem", "credentials/kalshi/prod/kalshi-auth.txt"}
    | {"credentials/other_apis/key.json"},
    "v6": {".env"},
    "freqtrade": {"config.json", "user_data/config.json", "user_data/config-private.json"},
    "trade_agent": {"data/app.db", "data/app.db-wal"},
}


def found(profile: Profile, path: str) -> Classified:
    classified = classify(profile, path)
    assert classified is not None, f"{path} is in no component"
    return classified


def test_the_six_built_ins_are_there() -> None:
    assert built_in_names() == ("crypto_bot", "freqtrade", "kalshi", "paper_bot", "trade_agent", "v6")
    assert set(ACCEPTED_KINDS) == set(KIND_NAMES)


@pytest.mark.parametrize("name", built_in_names())
def test_built_in_is_faithful_to_its_document(name: str) -> None:
    profile = resolve_profile(name)
    classes = {path: found(profile, path) for path in FILES[name]}
    assert {path: (c.mode, c.component.name) for path, c in classes.items()} == FILES[name]
    assert {path for path, c in classes.items() if c.secret} == SECRET.get(name, set())
    created = {directory.path: directory.mode for directory in tree_directories(profile)}
    assert {path: created.get(path) for path in DIRECTORIES[name]} == DIRECTORIES[name]
    assert (profile.root, profile.owner, profile.archive_prefix) == PLACES[name]


@pytest.mark.parametrize("name", built_in_names())
def test_built_in_is_an_application_without_further_inputs_but_an_owner(name: str) -> None:
    application = resolve_application(name, owner="azureuser" if name == "paper_bot" else None)
    assert application.name == name
    assert resolve_mapping(resolve_mapping(name)) == resolve_mapping(name)
    assert any(component.critical for component in application.profile.components)
    assert all(component.backup for component in application.profile.components)
    # What the system's own guide keeps in git comes with its deploys.
    deployed = {"configuration"} if name == "v6" else set()
    assert {component.name for component in application.profile.components if not component.preserve} == deployed


@pytest.mark.parametrize("name", built_in_names())
def test_directories_come_after_their_parents(name: str) -> None:
    paths = [directory.path for directory in tree_directories(resolve_profile(name))]
    assert paths[0] == ""
    for index, path in enumerate(paths[1:], 1):
        assert path.rpartition("/")[0] in paths[:index]


@pytest.mark.parametrize("name", built_in_names())
def test_deploys_leave_the_documents_data_alone(name: str) -> None:
    deploy = resolve_profile(name).deploy
    assert set(PRESERVED[name]) <= set(deploy.preserve)
    assert deploy.on_collision is CollisionPolicy.FAIL


def test_what_a_bot_is_just_writing_is_no_data() -> None:
    assert classify(resolve_profile("crypto_bot"), "data/tmpx3k2.tmp") is None


def test_kalshi_schedule_retention_and_services() -> None:
    profile = resolve_profile("kalshi")
    assert [(s.tier, s.calendar, s.encrypt) for s in profile.schedules] == [
        (Tier.DAILY, "*-*-* 02:00:00", None),
        (Tier.WEEKLY, "Sun *-*-* 03:00:00", True),
        (Tier.MONTHLY, "*-*-01 04:00:00", None),
    ]
    assert profile.retention == Retention(daily=7, weekly=4, monthly=12)
    supervisor, systemd = profile.services
    assert supervisor.supervisor_config == "/opt/trading_system/backend/supervisord.conf"
    assert systemd.units == ("trading_system.service",)
    assert {c.name for c in profile.components if c.critical} == {"credentials", "databases"}


def test_kalshi_starts_safely() -> None:
    documents = {rule.pattern: rule.template for _, rule in templates(resolve_profile("kalshi"))}
    assert documents["state/account_mode.json"] == {"mode": "demo"}
    trading = documents["preferences/trading/trade_preferences.json"]
    assert trading is not None
    assert (trading["auto_entry"], trading["auto_stop"]) == (False, True)
    assert "state/system_state.json" not in documents


def test_kalshi_expects_its_databases() -> None:
    expected = {rule.pattern for _, rule in expected_files(resolve_profile("kalshi"))}
    assert expected == {path for path in FILES["kalshi"] if path.endswith(".db") and "/prod/" not in path}


def test_v6_and_crypto_bot_times_and_retention() -> None:
    (daily,) = resolve_profile("v6").schedules
    assert (daily.tier, daily.calendar) == (Tier.DAILY, "Mon..Fri *-*-* 17:00:00 America/New_York")
    assert resolve_profile("v6").retention == Retention(within_days=30)
    assert {"v6-trading.service", "v6-position-sync.service", "v6-dashboard.service"} <= set(
        resolve_profile("v6").services[0].units
    )
    assert resolve_profile("crypto_bot").retention == Retention(daily=30, monthly=12)


@pytest.mark.parametrize("name", [n for n in built_in_names() if n != "kalshi"])
def test_no_template_stands_in_for_what_the_bot_must_make(name: str) -> None:
    assert templates(resolve_profile(name)) == ()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_every_calendar_of_a_built_in() -> None:
    calendars = [schedule.calendar for name in built_in_names() for schedule in resolve_profile(name).schedules]
    subprocess.run(["systemd-analyze", "calendar", *calendars], check=True, capture_output=True)
