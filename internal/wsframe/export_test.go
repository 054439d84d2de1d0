package wsframe

// Held returns how many bytes of an unfinished message p holds.
func (p *Parser) Held() int {
	if p.begun == nil {
		return 0
	}
	return len(p.begun.Data)
}
