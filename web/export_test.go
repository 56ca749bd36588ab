package web

// Routes are the table's methods and paths, for the tests of the contract.
func (a *API) Routes() (all []string) {
	for _, e := range a.endpoints() {
		all = append(all, e.method+" "+e.path)
	}
	return all
}
