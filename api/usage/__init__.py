"""What was used and what it cost: reports, request logs, exports and receipts, read only.

Every number is over the rows the caller may see (`visibility`); sums are micro-credits; days are IST days.
"""
