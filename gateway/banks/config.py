"""Section of the site file for a bank."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.documents import HostPort, Name, Section


class Bank(Section):
    """[[banks]]"""

    name: Name
    """name of the channel; mandates and the bank account in the ledger carry it"""
    address: HostPort
    """host:port of the bank's front end"""
    merchant_no: str = Field(pattern=r"^[0-9A-Za-z]{15}$")
    """merchant number of field 42, 15 characters"""
    tpdu: str = Field("6000030000", pattern=r"^60[0-9A-Fa-f]{8}$")
    """transport header, 5 bytes in hex: 60 and two addresses"""
    header: str = Field("603100310100", pattern=r"^[0-9A-Fa-f]{12}$")
    """message header, 6 bytes in hex"""
    response_codes: Literal["cups-pos", "iso-8583-1987"] = "cups-pos"
    """table of its answer codes (field 39); a code that is not in it leaves the outcome unknown"""
    not_echoed: tuple[Literal[3, 25, 42, 60], ...] = ()
    """fields that its answers fill otherwise than they were asked, and honestly so; all others are compared"""
    anchor_field: Literal[0, 62] = 62
    """private field in which sign-ins, echoes, advices and refunds tell where the ledger stands; 0 = none"""
    max_message_age_s: int = Field(180, ge=1, le=86_400)
    """seconds after which a message can no longer be under way in the bank's network"""
    echo_idle_s: float = Field(60.0, gt=0, le=3600)
    """seconds without traffic after which the link is tested with an echo"""
    reconnect_max_s: float = Field(30.0, ge=1, le=3600)
    """longest pause in seconds between two tries to connect"""
