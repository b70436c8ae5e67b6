FROM base
COPY . /all/
COPY tr*/ /w/
