FROM base
ADD tar /x/
