"""The CallMissed server: gateway, ledger, tenants and their HTTP. Knows nothing of the dashboard."""
