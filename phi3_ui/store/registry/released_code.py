"""The Python files that releases of this project have logged with models, by their SHA-256. A test checks that today's are here."""

RELEASED: dict[str, frozenset[str]] = {
    "phi3_onnx.py": frozenset(
        {
            "ce663fe5cd4babd07f2aa857c4e632eda0daf507d7f35b770b6cdda91ba046b4",  # this release
            "e1a075b3cfb74938b37855cd727d0497dffe9f0f6282400e3da0fee03eda94dd",
            "a627e7ce8c232489eb9b793695b38eeb6255710869190c7749e37cb1ac71ce53",
            "7e22a5999b5020a812d5513b3d0ea6dd4905ba580f1bf4d33a51b1fa1e81dab8",
            "a89017e0c7339bb99e8fb019479e1f05b1893581ab09becede520b95c4a9097d",
            "92a7897f431aec40220a697d0b1f18aebfc038c97b29d671e9e4895f5ce76a27",
            "e33c262119f5103631847812090a24f0c99ad05102cd04b8195d7ae73723753c",
            "4372a8dfd650207218df54a6b482f4bcf5d7d8b4f0e3a9ac48a4c8bf622c1682",
            "c00da45cbd1d445770e1ea95865785fa0b4c84b2ef659ef01e6b6c16ff8374a1",
            "c62869006cfa3088c6cdc42241e5dabde0dcb1029e32a3e19f6b5ecc3c183c9a",
        }
    ),
    "code/phi3_onnx_slots.py": frozenset(
        {
            "b3b54f219f4d527aa9ee73574191fece4077521d7918afe7d57278022b3cbc59",
            "fb583bec88b63bf502d26b1564602fccbc2155fbb38261ccefac33b401baab49",
            "4fba6312843433ed598d9f00f2bb069244fd73b4da1e18d65455591ae9072719",
            "c4112e2256d4e1e9cb6c0e2e30c69eb17683a75d35b0ebf9d0479400065fca46",
            "0e446e38c02b72b4c6eec2fc80e7956172494890e8c48c49cfd2477b3349efe4",
            "276956aa5192b5d2bba9cfbb55472e09432479d5e564911f4759a2b9494f2f3a",
        }
    ),
    "code/phi3_onnx_engine/__init__.py": frozenset(
        {
            "e1e0be8aea7f6513874ae12023c7cacd4f31fbefe73a6cb3fafd956919f9f30c",  # this release
            "054d35bf69f8c93622b7866ad7909859145569932d3858f44fed48dd5582f058",
        }
    ),
    "code/phi3_onnx_engine/batched.py": frozenset(
        {
            "245af7fcec0636ab79261ef5dc7d8514f1c005918cd977086a35fb7baa407802",  # this release
            "5338ec84758f4a646659ba2aa8eb2b1ba0cfb92d94050a2414498fa15c1717b9",
            "a39d0e6f6baab1ecb8b4cd8afd14a4dc9756ed6d076072649ede8c6ac9435274",
        }
    ),
    "code/phi3_onnx_engine/engine.py": frozenset(
        {
            "dfa5d91b144ce5b9d7875725a1566bf05a66d66fdd80296925adebb28bf58643",  # this release
            "2a535f71e1f4aaa649a18721257bac76e29a8ea968176666f65996fe10fa5c71",
            "bcfda077bc1f072106aeda33781cd497b7c48688b01d2b717d14a3d854a53bca",
        }
    ),
    "code/phi3_onnx_engine/events.py": frozenset(
        {
            "0c7132b83678aacf1400be9f9f0292278b74917119715ae0d678175dff2e12a8",  # this release
            "c1342898f9ceef80d8059b6ec59cefb89908202dd244cd7964257ab7971fcdcc",
        }
    ),
    "code/phi3_onnx_engine/folder.py": frozenset(
        {
            "3632ea35d79be7eb3fbee58d8c98f429de94b48c9f0fb2914b336f6715d1f07d",  # this release
            "cef44c87e52df1faf4f9510602a0f2b57af7b3fedfca552208d30ed1fd0fb030",
            "1eadbc3a0517a3d06123bd141df6b77bc2cf153329121c3b6decde9f281edfdd",
            "ce1e1315a3810b7bff01a13f0ad00ae2f7f88e0afba1444d10c2987a3697544f",
        }
    ),
    "code/phi3_onnx_engine/genai.py": frozenset(
        {
            "1cc4cafbb8c9d51bc9c98df4b56d65ef8894c361c9f1d7335dcddced639c4225",  # this release
            "e9144d7d07b77f4962b25914f2b61909ce2173c215e901e6ce878011ebe887d9",
            "f552af41e35e6bc8d560db23d4810754237c7eba973bba9c242ff1ad1f6526b3",
        }
    ),
    "code/phi3_onnx_engine/graph.py": frozenset(
        {
            "70937b2de9f5b7ddaf2c0d94509124bcbc9f7eeb74803e1ac3dbfa85230927c6",  # this release
            "2e6fb3ce370c95e4355cc41199640266d1b78445e867b183b75f29cac5f94215",
            "a0de7a9c3236a367e68f70febdec97a2b1d12cefd05471512aef9d49b77ce134",
        }
    ),
    "code/phi3_onnx_engine/kv_pool.py": frozenset(
        {
            "12c7acda9bc35d4136579ca419eb7acab496f2d8870d0beaeb826f6fea2e01a3",  # this release
            "9005b2c161d19db89a046f0ffbd9ee2a09297bf96491e482880f8bcdf58a103f",
        }
    ),
    "code/phi3_onnx_engine/pace.py": frozenset(
        {
            "0d3487f95cfe7ddf9feaa01165bb3122090cf05a171011b9051b58cb8b16fd36",  # this release
            "7810f50e8d5372d5ac203629b4c676b81304fef2bcd49c65e3138ff249b26168",
            "bdc00906c7c8c0ed1b8d7a2de3bbc3fe6b057ed4c9401640c988a8ba91c16b9c",
        }
    ),
    "code/phi3_onnx_engine/sampler.py": frozenset(
        {
            "fa7a73015d50c0fc04dfd35a34bab0355769b96e6b9ac8016e6edbad05c58e42",  # this release
            "c45a156caf1ffe613681dbc775b58cd096f6d2b5bffd2bf0c38a10b39dbca9e8",
        }
    ),
    "code/phi3_onnx_engine/scheduler.py": frozenset(
        {
            "ea0ee9371a07b84329fa4cbaaa46e03b7bbd7f5660502d1c0f4fcb2d7d0493b9",  # this release
            "ada5748d5674610506180c034f8cab3b73151c198ba47e54354fdf010d7ca897",
            "ce9332d565e65c553a5cdf6aa5328223a0108da24a64d298273c9ac872de0a64",
        }
    ),
    "code/phi3_onnx_engine/segment_runner.py": frozenset(
        {
            "ee0df0c12a4dd5c0ae3ca12e842fa659de07e6f97b00409535b88539d3974bcc",  # this release
            "a777f3f93355f8302f9f558e55973985fa5625f0fb02641220b4212fd204fa77",
            "c59245bb8ea2a46a5b9aa3ef2f494b822013f86544321db7f872ad0913025d60",
        }
    ),
    "code/phi3_onnx_engine/segments.py": frozenset(
        {
            "2d4b81b5dbfe52528fb55eb71c758a58537bb289bb139d71b1d31f29c99f8ee8",  # this release
            "b9a5a2d8aaff4d7560d477a8bcdc00afe998db35edf2d2accec1c7db2eeb675c",
        }
    ),
    "code/phi3_onnx_engine/selection.py": frozenset(
        {
            "b645a7898d3dfb1ba9e9ef3a45f6235c06f18bac7908d116e395292fb3e70aca",  # this release
            "e200404a8f998f349e8d284eee3372872c373aa78126f032758c2f1ed8a22571",
            "ef208da1a3e8e3bf98bf5f5ddba7cc1cff038d821aed667002073dfc70d98d50",
        }
    ),
    "code/phi3_onnx_engine/slots.py": frozenset(
        {
            "e565e51ec3635c0cad25f800c0b3838b3ff38ee67f2fb134bd8873f0b7c2758e",  # this release
            "f78e8929dad42463b6a0027aea94343472d06f8f362c502d3d359e7805b11571",
        }
    ),
    "code/phi3_onnx_engine/text_stream.py": frozenset(
        {
            "1ef4e28d9619a398458c96df3200aa1f455267c4a1d8264fd4213396c2ef6238",  # this release
            "6385a5e0a859dfb7895e2c0a9bcf8c8268239cca773bd5febb34db660e07bda5",
        }
    ),
}
"""The SHA-256 of every released version, by the file's path in an artifact."""

WRAPPER = "phi3_onnx.py"
