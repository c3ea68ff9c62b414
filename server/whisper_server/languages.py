"""The languages that Whisper knows, by code and by name.

A list of our own, because openai-whisper's comes with torch: settings must be checked at once, and an image with another engine
has none. A test holds it equal.
"""

import re

_TABLE = """
    en:english zh:chinese de:german es:spanish ru:russian ko:korean fr:french ja:japanese pt:portuguese
    tr:turkish pl:polish ca:catalan nl:dutch ar:arabic sv:swedish it:italian id:indonesian hi:hindi
    fi:finnish vi:vietnamese he:hebrew uk:ukrainian el:greek ms:malay cs:czech ro:romanian da:danish
    hu:hungarian ta:tamil no:norwegian th:thai ur:urdu hr:croatian bg:bulgarian lt:lithuanian la:latin
    mi:maori ml:malayalam cy:welsh sk:slovak te:telugu fa:persian lv:latvian bn:bengali sr:serbian
    az:azerbaijani sl:slovenian kn:kannada et:estonian mk:macedonian br:breton eu:basque is:icelandic
    hy:armenian ne:nepali mn:mongolian bs:bosnian kk:kazakh sq:albanian sw:swahili gl:galician mr:marathi
    pa:punjabi si:sinhala km:khmer sn:shona yo:yoruba so:somali af:afrikaans oc:occitan ka:georgian
    be:belarusian tg:tajik sd:sindhi gu:gujarati am:amharic yi:yiddish lo:lao uz:uzbek fo:faroese
    ht:haitian_creole ps:pashto tk:turkmen nn:nynorsk mt:maltese sa:sanskrit lb:luxembourgish my:myanmar
    bo:tibetan tl:tagalog mg:malagasy as:assamese tt:tatar haw:hawaiian ln:lingala ha:hausa ba:bashkir
    jw:javanese su:sundanese yue:cantonese
"""
NAMES = {code: name.replace("_", " ") for code, name in (entry.split(":") for entry in _TABLE.split())}
"""Code to name, in the order of the models' tokens: a model that knows n languages knows the first n."""

_ALIASES = {
    **{
        "burmese": "my",
        "valencian": "ca",
        "flemish": "nl",
        "haitian": "ht",
        "letzeburgesch": "lb",
        "pushto": "ps",
    },
    **{
        "panjabi": "pa",
        "moldavian": "ro",
        "moldovan": "ro",
        "sinhalese": "si",
        "castilian": "es",
        "mandarin": "zh",
    },
}
CODES = {name: code for code, name in NAMES.items()} | _ALIASES
"""Name to code, with openai-whisper's further names."""

_OTHER_CODES = {
    **{"jv": "jw", "nb": "no", "fil": "tl", "iw": "he", "in": "id", "ji": "yi", "mo": "ro", "cmn": "zh"},
}
"""Codes that others use for the same languages, or used to."""


def code_of(text: str) -> str | None:
    """The code that the models know for a language as people and programs write it: a code, also one with a region such as
    pt-BR, or an English name; None for what is no language of theirs."""
    text = text.strip().lower()
    plain = re.split("[-_]", text, maxsplit=1)[0]
    found = (CODES.get(text) or _OTHER_CODES.get(each, each) for each in (text, plain))
    return next((code for code in found if code in NAMES), None)
