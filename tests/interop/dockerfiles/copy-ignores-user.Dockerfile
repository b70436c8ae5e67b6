FROM rich
COPY a.txt /mine
ADD b.txt /new/mine2
