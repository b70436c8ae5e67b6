FROM rich
LABEL a=b c="d e" 'f'="g\"h" legacy.x=y
LABEL legacy value with "quotes" inside
LABEL from=child multi="line one \
line two"
LABEL "key with blank"="v" empty= dollar='$A' tab="a	b"
