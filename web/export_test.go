package web

// Routes are the table's methods and paths, for the tests of the contract.
func (a *API) Routes() (all []string) {
	for _, e := range a.endpoints() {
		all = append(all, e.method+" "+e.path)
	}
	return all
}

// Shelves is how many shelves there are beside the plain one, and how many readers they have.
func (a *API) Shelves() (shelves, readers int) {
	a.shelves.mu.Lock()
	defer a.shelves.mu.Unlock()
	for _, s := range a.shelves.open {
		readers += s.readers
	}
	return len(a.shelves.open), readers
}
