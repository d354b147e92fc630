module service-facets/light

go 1.24
