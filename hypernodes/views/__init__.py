"""What a person looks at: a plan as text, JSON or Mermaid, and the run that it would be on a virtual clock."""
