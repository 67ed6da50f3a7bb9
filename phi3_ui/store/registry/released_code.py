"""The Python files that releases of this project have logged with models, by their SHA-256. A test checks that today's are here."""

RELEASED: dict[str, frozenset[str]] = {
    "phi3_onnx.py": frozenset(
        {
            "a627e7ce8c232489eb9b793695b38eeb6255710869190c7749e37cb1ac71ce53",  # this release
            "7e22a5999b5020a812d5513b3d0ea6dd4905ba580f1bf4d33a51b1fa1e81dab8",
            "a89017e0c7339bb99e8fb019479e1f05b1893581ab09becede520b95c4a9097d",
            "92a7897f431aec40220a697d0b1f18aebfc038c97b29d671e9e4895f5ce76a27",
            "e33c262119f5103631847812090a24f0c99ad05102cd04b8195d7ae73723753c",
            "4372a8dfd650207218df54a6b482f4bcf5d7d8b4f0e3a9ac48a4c8bf622c1682",
            "c00da45cbd1d445770e1ea95865785fa0b4c84b2ef659ef01e6b6c16ff8374a1",
            "c62869006cfa3088c6cdc42241e5dabde0dcb1029e32a3e19f6b5ecc3c183c9a",
        }
    ),
    "phi3_onnx_slots.py": frozenset(
        {
            "b3b54f219f4d527aa9ee73574191fece4077521d7918afe7d57278022b3cbc59",  # this release
            "fb583bec88b63bf502d26b1564602fccbc2155fbb38261ccefac33b401baab49",
            "4fba6312843433ed598d9f00f2bb069244fd73b4da1e18d65455591ae9072719",
            "c4112e2256d4e1e9cb6c0e2e30c69eb17683a75d35b0ebf9d0479400065fca46",
            "0e446e38c02b72b4c6eec2fc80e7956172494890e8c48c49cfd2477b3349efe4",
            "276956aa5192b5d2bba9cfbb55472e09432479d5e564911f4759a2b9494f2f3a",
        }
    ),
}
"""The SHA-256 of every released version, by file name."""

WRAPPER, SLOTS = RELEASED
