"""What columns and values are called where several commands show them: one term, one translation."""

from __future__ import annotations

from typing import Final

from gateway.cli.screen import Words

AMOUNT: Final = Words("Amount", "金额")
BARRIER: Final = Words("Barrier", "栏杆")
DEBIT: Final = Words("Debit", "应收编号")
FILE: Final = Words("File", "文件")
FUNDING: Final = Words("Funding", "资金")
HELD: Final = Words("Held", "冻结")
KEY: Final = Words("Key", "键")
LANE: Final = Words("Lane", "车道")
MANDATE: Final = Words("Mandate", "签约")
MEANING: Final = Words("Meaning", "含义")
NEXT_STEP: Final = Words("Next step", "下一步")
NEXT_TRY: Final = Words("Next try", "下次追缴")
OUTCOME: Final = Words("Outcome", "结果")
PASSAGE: Final = Words("Passage", "通行编号")
PAYER: Final = Words("Payer", "付款方")
PLATE: Final = Words("Plate", "车牌")
REASON: Final = Words("Reason", "原因")
STATE: Final = Words("State", "状态")
TIME: Final = Words("Time", "时间")
VALUE: Final = Words("Value", "值")
