FROM base
ENV legacy value with  two blanks and "quotes"
ENV A=1 B="two words" C='single $A' D=esc\ aped E="q\"uote" F=$A G=${legacy} EMPTY=
ENV A=2 H=$A
ENV I=$A
ENV J='it''s' K="a"b'c' L=\$A M=\\ N="\\n" O='\n'
ENV $A-key=x ${B}y=z
RUN env | grep -E '^[A-OE]' | sort >/env
