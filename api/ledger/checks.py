"""What must be true of the books, each as a query for the rows that break it.

A row names its tenant, then itself, then what is written and what it should be.
"""
# ruff: noqa: S608 - no value goes into these queries, only the names in this file.


def checks(*, is_sqlite: bool) -> dict[str, str]:
    """The claims about the books, each with the query whose rows contradict it."""

    def as_hex(column: str) -> str:
        return column if is_sqlite else f"replace(CAST({column} AS text), '-', '')"

    def price(name: str) -> str:
        given = f"json_extract(p.prices, '$.{name}')" if is_sqlite else f"(p.prices ->> '{name}')::bigint"
        return f"COALESCE({given}, 0)"

    def naming(table: str, condition: str) -> str:
        each = "json_each(t.budgets) b" if is_sqlite else "json_array_elements_text(t.budgets) AS b(value)"
        return f"(SELECT t.tenant_id, t.amount, b.value AS named FROM {table} t, {each} {condition})"

    # The cast gives the expression a column's type: without it SQLite joins on it by trying every row.
    held_by_request = """
        SELECT tenant_id, SUM(amount) AS amount,
               CAST(substr(reference, CASE WHEN reference LIKE 'overrun:%' THEN 9 ELSE 1 END, 32) AS text)
                 AS request
          FROM transfers WHERE kind = 'hold' GROUP BY 1, 3
    """
    return {
        "a wallet differs from its movements (tenant, too much of each part)": """
            SELECT tenant_id, SUM(promo), SUM(plan), SUM(paid) FROM (
                SELECT tenant_id, promo, plan, paid FROM wallets
                UNION ALL SELECT tenant_id, -promo, -plan, -paid FROM transfers) x
             GROUP BY tenant_id HAVING SUM(promo) <> 0 OR SUM(plan) <> 0 OR SUM(paid) <> 0
        """,
        "a wallet's holds differ from the open ones (tenant, too much held)": """
            SELECT tenant_id, SUM(held) FROM (
                SELECT tenant_id, held FROM wallets UNION ALL SELECT tenant_id, -amount FROM open_holds) x
             GROUP BY tenant_id HAVING SUM(held) <> 0
        """,
        "a wallet is overdrawn (tenant)": """
            SELECT tenant_id FROM wallets
             WHERE promo < 0 OR plan < 0 OR paid < 0 OR held < 0 OR held > promo + plan + paid
        """,
        "a movement's parts are not its amount (tenant, transfer, kind, amount, parts)": """
            SELECT tenant_id, id, kind, amount, promo + plan + paid FROM transfers
             WHERE promo + plan + paid <> CASE
                   WHEN kind = 'settle' THEN -amount
                   WHEN kind IN ('hold', 'void', 'expire') THEN 0 ELSE amount END
        """,
        "an open hold differs from what was held (tenant, request, open, held)": f"""
            SELECT h.tenant_id, h.id, h.amount, t.amount FROM open_holds h
              LEFT JOIN ({held_by_request}) t ON t.tenant_id = h.tenant_id AND t.request = {as_hex("h.id")}
             WHERE h.amount <> COALESCE(t.amount, -1)
        """,
        "a held request is neither open nor resolved, or both (tenant, request)": f"""
            SELECT t.tenant_id, t.request FROM ({held_by_request}) t
              LEFT JOIN open_holds h ON h.tenant_id = t.tenant_id AND {as_hex("h.id")} = t.request
              LEFT JOIN transfers r ON r.tenant_id = t.tenant_id AND {as_hex("r.resolves")} = t.request
             WHERE (h.id IS NULL) = (r.id IS NULL)
        """,
        "a charge is more than was held (tenant, request, charged, held)": f"""
            SELECT r.tenant_id, r.resolves, r.amount, t.amount FROM transfers r
              LEFT JOIN ({held_by_request}) t
                ON t.tenant_id = r.tenant_id AND t.request = {as_hex("r.resolves")}
             WHERE r.resolves IS NOT NULL
               AND (r.amount > COALESCE(t.amount, -1) OR (r.kind <> 'settle' AND r.amount <> t.amount))
        """,
        "a resolved request and its usage row differ (tenant, request, kind, moved, charge, held)": f"""
            SELECT r.tenant_id, r.resolves, r.kind, r.amount, u.charge, u.held FROM transfers r
              JOIN ({held_by_request}) t ON t.tenant_id = r.tenant_id AND t.request = {as_hex("r.resolves")}
              LEFT JOIN usage_rows u ON u.tenant_id = r.tenant_id AND u.id = r.resolves
             WHERE r.resolves IS NOT NULL
               AND (u.id IS NULL OR u.held <> t.amount
                    OR u.charge <> CASE WHEN r.kind = 'settle' THEN r.amount ELSE 0 END)
        """,
        "a usage row has money without a movement (tenant, request, charge)": """
            SELECT u.tenant_id, u.id, u.charge FROM usage_rows u
              LEFT JOIN transfers r ON r.tenant_id = u.tenant_id AND r.resolves = u.id
             WHERE r.id IS NULL AND (u.charge <> 0 OR u.held <> 0 OR u.provider_loss <> 0)
        """,
        "a charge differs from its prices (tenant, request, price version, charge, loss)": f"""
            SELECT u.tenant_id, u.id, u.price_version, u.charge, u.provider_loss FROM usage_rows u
              JOIN transfers r ON r.tenant_id = u.tenant_id AND r.resolves = u.id AND r.kind = 'settle'
              LEFT JOIN price_versions p ON p.id = u.price_version
             WHERE u.charge + u.provider_loss <> (
                   u.input_tokens * {price("input")}
                   + u.cached_tokens * {price("cached")}
                   + u.cache_write_tokens * {price("cache_write")}
                   + u.output_tokens * {price("output")}
                   + 999999) / 1000000
        """,
        "a budget's holds differ from the open ones (tenant, budget, held, open)": f"""
            SELECT b.tenant_id, b.id, b.held, COALESCE(SUM(x.amount), 0) FROM budgets b
              LEFT JOIN {naming("open_holds", "")} x
                ON x.tenant_id = b.tenant_id AND x.named = {as_hex("b.id")}
             GROUP BY b.tenant_id, b.id, b.held HAVING b.held <> COALESCE(SUM(x.amount), 0)
        """,
        "a budget differs from what was charged against it (tenant, budget, used, charged)": f"""
            SELECT b.tenant_id, b.id, b.used, b.opening + COALESCE(SUM(x.amount), 0) FROM budgets b
              LEFT JOIN {naming("transfers", "WHERE kind = 'settle'")} x
                ON x.tenant_id = b.tenant_id AND x.named = {as_hex("b.id")}
             GROUP BY b.tenant_id, b.id, b.used, b.opening
            HAVING b.used <> b.opening + COALESCE(SUM(x.amount), 0)
        """,
    }
